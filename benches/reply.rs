//! How fast replies are read (one short line, an EHLO response, a pipelined batch) and judged.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailferry::mail::{Cause, Failure, Reply, Stage};
use mailferry::policy::verdict::judge;
use mailferry::submit::smtp::reply::ReplyReader;
use std::hint::black_box;

fn read_all(bytes: &[u8]) -> usize {
    let mut reader = ReplyReader::new();
    let mut replies = 0;
    reader.feed(bytes);
    while let Ok(Some(reply)) = reader.reply() {
        black_box(reply);
        replies += 1;
    }
    replies
}

fn replies(c: &mut Criterion) {
    let ehlo = b"250-AM0PR01CA0001.outlook.office365.com Hello [192.0.2.1]\r\n250-SIZE 157286400\r\n\
        250-PIPELINING\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH LOGIN XOAUTH2\r\n250-8BITMIME\r\n\
        250-BINARYMIME\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n";
    let batch =
        [b"250 2.1.0 Sender OK\r\n".as_slice(), &b"250 2.1.5 Recipient OK\r\n".repeat(98), b"354 go\r\n"];
    let mut group = c.benchmark_group("reply");
    for (name, bytes, count) in [
        ("one line", b"451 4.7.0 Temporary server error. Please try again later. PRX4\r\n".to_vec(), 1),
        ("ehlo", ehlo.to_vec(), 1),
        ("a hundred pipelined", batch.concat(), 100),
    ] {
        assert_eq!(read_all(&bytes), count);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| read_all(black_box(&bytes))));
    }
    group.finish();
}

fn verdicts(c: &mut Criterion) {
    let said = |stage, code, text| Failure::new(stage, Cause::Reply(Reply::new(code, text)));
    let mut group = c.benchmark_group("verdict");
    for (name, failure) in [
        (
            "throttled login",
            said(Stage::Auth, 451, "4.7.0 Temporary server error. Please try again later. PRX4"),
        ),
        (
            "refused login",
            said(Stage::Auth, 535, "5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod]"),
        ),
        (
            "too many connections",
            said(
                Stage::Mail,
                432,
                "4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
            ),
        ),
        (
            "not allowed to send as",
            said(
                Stage::FinalDot,
                554,
                "5.2.252 SendAsDenied; scanner@contoso.com not allowed to send as hp@contoso.com; \
                 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
            ),
        ),
        (
            "no such recipient",
            said(Stage::Rcpt, 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found"),
        ),
        // Past every rule.
        ("what nobody has met", said(Stage::FinalDot, 450, "4.9.9 The moon is in the wrong house")),
    ] {
        group.bench_function(name, |b| b.iter(|| judge(black_box(&failure))));
    }
    group.finish();
}

criterion_group!(benches, replies, verdicts);
criterion_main!(benches);
