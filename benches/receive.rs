//! How fast commands are read, and content is decoded: clean base64, 8-bit text, LF-only text, and text with something to remove.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailferry::receive::command::parse;
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

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    for (name, line) in [
        ("EHLO", b"EHLO NPIF65E56\r\n".as_slice()),
        ("MAIL", b"MAIL FROM:<scanner-3@contoso.com> SIZE=482133 BODY=8BITMIME\r\n"),
        ("RCPT", b"RCPT TO:<anna.mueller@contoso.com>\r\n"),
        ("RCPT with three in one", b"rcpt to: a@contoso.com; b@contoso.com; c@contoso.com\r\n"),
        ("DATA", b"DATA\r\n"),
        ("no command", b"GET / HTTP/1.1\r\n"),
    ] {
        group.bench_function(name, |b| b.iter(|| parse(black_box(line))));
    }
    group.finish();
}

criterion_group!(benches, decode, commands);
criterion_main!(benches);
