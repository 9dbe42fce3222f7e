//! Any split decodes the same; no bare CR or LF comes out; the end is where the raw bytes have it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::receive::decode::{Decoder, Seen};

fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>, lf_only: bool) -> (Vec<u8>, bool, bool, Seen) {
    let mut decoder = Decoder::new(lf_only);
    let mut out = vec![];
    for piece in pieces {
        decoder.push(piece, &mut out);
    }
    (out, decoder.is_finished(), decoder.awaits_silence(), *decoder.seen())
}

fuzz_target!(|input: &[u8]| {
    let [flags, raw @ ..] = input else { return };
    let lf_only = flags & 1 == 1;
    let piece = usize::from(flags >> 1) + 1;
    let whole = decoded(std::iter::once(raw), lf_only);
    assert_eq!(whole, decoded(raw.chunks(1), lf_only));
    assert_eq!(whole, decoded(raw.chunks(piece), lf_only));

    let (out, finished, _, seen) = whole;
    for (i, b) in out.iter().enumerate() {
        match b {
            b'\r' => assert_eq!(out.get(i + 1), Some(&b'\n')),
            b'\n' => assert_eq!(i.checked_sub(1).map(|j| out[j]), Some(b'\r')),
            _ => assert_ne!(*b, 0),
        }
    }
    let behind_data = [b"\r\n", raw].concat();
    let end = memchr::memmem::find(&behind_data, b"\r\n.\r\n").map(|i| i as u64 + 3);
    assert_eq!(finished, end.is_some());
    assert_eq!(seen.raw_bytes, end.unwrap_or(raw.len() as u64));
});
