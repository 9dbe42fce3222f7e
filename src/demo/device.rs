//! A device as naive as the ones in the field: plain SMTP, no TLS, no queue, one try.
//!
//! Invariant: a message that is not answered 250 is lost, as it is on a printer. Must not know: what it sends.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a panel waits before it shows an error; cards of UPSes give up sooner.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer replies are not SMTP.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// How a device introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// HELO, as old firmware does.
    Helo,
    /// EHLO, whose answer it ignores.
    Ehlo,
}

/// A device on the network.
#[derive(Debug, Clone)]
pub struct Device {
    /// What people call it.
    pub name: &'static str,
    /// HELO or EHLO.
    pub greeting: Greeting,
    /// The name it gives itself there.
    pub host_name: &'static str,
    /// MAIL FROM, brackets excluded.
    pub from: &'static str,
    /// RCPT TO, brackets excluded.
    pub to: &'static str,
}

/// What the device's panel could show.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The last line the relay said.
    pub line: String,
    /// 250 to the end of data.
    pub accepted: bool,
    /// From the final dot to that answer.
    pub after: Duration,
}

impl Device {
    /// Connects, sends one message and hangs up. The message's last line ends in CRLF.
    ///
    /// # Errors
    /// No connection, no answer in time, or the connection was closed: a printer shows "failed" and forgets.
    pub async fn send(&self, relay: SocketAddr, message: &[u8]) -> io::Result<Answer> {
        let stream = patient(TcpStream::connect(relay)).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut last = read_reply(&mut stream).await?;
        let greeting = match self.greeting {
            Greeting::Helo => "HELO",
            Greeting::Ehlo => "EHLO",
        };
        let commands = [
            (format!("{greeting} {}\r\n", self.host_name), "250"),
            (format!("MAIL FROM:<{}>\r\n", self.from), "250"),
            (format!("RCPT TO:<{}>\r\n", self.to), "250"),
            ("DATA\r\n".to_owned(), "354"),
        ];
        if !last.starts_with("220") {
            return Ok(Answer { line: last, accepted: false, after: Duration::ZERO });
        }
        for (command, expected) in commands {
            stream.write_all(command.as_bytes()).await?;
            last = read_reply(&mut stream).await?;
            if !last.starts_with(expected) {
                return Ok(Answer { line: last, accepted: false, after: Duration::ZERO });
            }
        }
        patient(stream.write_all(&stuffed(message))).await?;
        patient(stream.write_all(b".\r\n")).await?;
        let dot = Instant::now();
        let line = read_reply(&mut stream).await?;
        let after = dot.elapsed();
        // Many devices just close; this one says goodbye and does not wait for the answer.
        stream.write_all(b"QUIT\r\n").await.ok();
        Ok(Answer { accepted: line.starts_with("250"), line, after })
    }
}

async fn patient<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, what).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The last line of a reply, without its line end.
async fn read_reply(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut read = 0;
    loop {
        let mut line = String::new();
        let n = patient(stream.read_line(&mut line)).await?;
        read += n;
        if n == 0 || read > MAX_REPLY_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_owned());
        }
    }
}

/// Dot-stuffing (RFC 5321 section 4.5.2), at whatever line ends the device uses.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_dot_is_doubled() {
        assert_eq!(stuffed(b"a\r\n.b\n..c\r\n"), b"a\r\n..b\n...c\r\n");
    }
}
