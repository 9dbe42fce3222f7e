//! What leaving costs: the look through a stored message and the bytes for the wire, without a network.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mailferry::letter::charset::Charsets;
use mailferry::letter::rewrite::rewrite_head;
use mailferry::mail::Sender;
use mailferry::submit::InMemory;
use mailferry::submit::smtp::wire::{Taken, Wire};
use std::hint::black_box;
use std::time::Duration;

const HEAD: &str = "Received: from NPIF65E56 ([10.0.5.7])\r\n\tby relay.contoso.local with ESMTP\r\n\
    \tid 000000000002D;\r\n\tMon, 23 Nov 2026 12:00:00 +0000\r\nFrom: \"Scanner 3rd floor\" <hp@old.example>\r\n\
    To: anna@contoso.com\r\nSubject: Scan f\u{fc}r M\u{fc}ller\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
    Message-ID: <1@hp>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n";

fn sender() -> Sender {
    Sender { mailbox: "scanner@contoso.com".parse().expect("an address"), send_as: vec![] }
}

/// A scan: text, and base64 in lines of `line` characters, `bytes` in all.
fn scan(bytes: usize, line: usize, text: &str) -> Vec<u8> {
    let mut out = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--b\r\nContent-Type: application/pdf; name=\"scan.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let row: Vec<u8> = alphabet.iter().copied().cycle().take(line).chain(*b"\r\n").collect();
    while out.len() + row.len() < bytes {
        out.extend_from_slice(&row);
    }
    out.extend_from_slice(b"--b--\r\n");
    out
}

async fn send(letter: &InMemory, sender: &Sender) -> u64 {
    let mut wire = Wire::prepare(letter, None, sender, Taken { eight_bit: true, utf8: true })
        .await
        .expect("it is in memory");
    let mut sent = 0;
    while let Some(chunk) = wire.chunk().await.expect("it is in memory") {
        sent += black_box(&chunk).len() as u64;
    }
    sent
}

fn wire(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let sender = sender();
    let mut group = c.benchmark_group("wire");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let dots = ".hidden\r\nline\r\n".repeat(8 * 1024 * 1024 / 15).into_bytes();
    for (name, content) in [
        ("clean base64, 2 KiB", scan(2 * 1024, 76, "Scan")),
        ("clean base64, 400 KiB", scan(400 * 1024, 76, "Scan")),
        ("clean base64, 8 MiB", scan(8 * 1024 * 1024, 76, "Scan")),
        ("a dot every other line, 8 MiB", dots),
        ("raw 8-bit text beside it, 8 MiB", scan(8 * 1024 * 1024, 76, "Grüße")),
        ("base64 in lines of 4000, 8 MiB", scan(8 * 1024 * 1024, 4000, "Scan")),
    ] {
        group.throughput(Throughput::Bytes(content.len() as u64));
        let letter = InMemory::new(HEAD.as_bytes().to_vec(), content);
        group.bench_with_input(BenchmarkId::from_parameter(name), &letter, |b, letter| {
            b.iter(|| runtime.block_on(send(letter, &sender)));
        });
    }
    group.finish();
}

fn head(c: &mut Criterion) {
    let sender = sender();
    c.bench_function("rewrite a head", |b| {
        b.iter(|| rewrite_head(black_box(HEAD.as_bytes()), &sender, Charsets::default()));
    });
}

criterion_group!(benches, wire, head);
criterion_main!(benches);
