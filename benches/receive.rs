//! How fast content is decoded: clean base64, 8-bit text, LF-only text, and text with something to remove.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailferry::receive::decode::Decoder;
use std::hint::black_box;

fn decode(c: &mut Criterion) {
    let base64 =
        [b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0".as_slice(), b"\r\n"]
            .concat();
    let inputs = [
        ("base64", base64.repeat(200_000)),
        (
            "8bit",
            b"M\xc3\xbcller und S\xc3\xb6hne, Stra\xc3\x9fe 1, 80331 M\xc3\xbcnchen\r\n".repeat(200_000),
        ),
        ("lf", b"a line that ends as lines end on Unix, nothing else is wrong with it\n".repeat(200_000)),
        ("controls", b"a form feed at the end of each line\x0c\r\n".repeat(200_000)),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, input) in &inputs {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(*name, |b| {
            let mut out = Vec::with_capacity(160 * 1024);
            b.iter(|| {
                let mut decoder = Decoder::new(false);
                for chunk in input.chunks(64 * 1024) {
                    out.clear();
                    decoder.push(chunk, &mut out);
                    black_box(&out);
                }
                decoder.seen().raw_bytes
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
