//! The client's end, for the command line.
//!
//! Invariant: one request a connection; an answer that is cut short is an error, never a shorter answer.

use super::report::{
    ChangeRequest, Changed, DeviceList, Line, Listed, Message, Naming, Refusal, Select, Shown, Status,
};
use crate::mail::{Escaped, QueueId};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// Until the answer begins, and until it goes on. A daemon on a dying disk must not hang the script that watches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// A part is some hundred messages, or one with all the recipients there can be.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: the daemon does not run.
    #[error("mailferry is not running")]
    NotRunning,
    /// The socket is there, and not for this user.
    #[error("permission denied at {0}")]
    Denied(PathBuf),
    /// No such message or account.
    #[error("{0}")]
    NotFound(String),
    /// The daemon refused or could not.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or what came is no answer.
    #[error("no answer from the daemon: {0}")]
    Broken(String),
    /// What came could not be written where it belongs.
    #[error("cannot write: {0}")]
    Write(io::Error),
}

impl From<hyper::Error> for ClientError {
    fn from(e: hyper::Error) -> Self {
        Self::Broken(e.to_string())
    }
}

/// Speaks to the daemon at a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For the socket at this path; nothing is opened yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Whether a daemon listens.
    ///
    /// # Errors
    /// `Denied`, `Broken`.
    pub async fn is_running(&self) -> Result<bool, ClientError> {
        match self.connect().await {
            Ok(_) => Ok(true),
            Err(ClientError::NotRunning) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The whole relay at this moment.
    ///
    /// # Errors
    /// Any.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json(Method::GET, "/status", None).await
    }

    /// Messages, oldest first, in parts.
    ///
    /// # Errors
    /// Any.
    pub async fn listing(&self, select: &Select) -> Result<Parts<Listed>, ClientError> {
        self.parts(Method::GET, &format!("/queue?{}", query(select)), None).await
    }

    /// Messages, oldest first, all at once: for few.
    ///
    /// # Errors
    /// Any.
    pub async fn list(&self, select: &Select) -> Result<Vec<Message>, ClientError> {
        let (mut parts, mut all) = (self.listing(select).await?, vec![]);
        while let Some(part) = parts.next().await {
            all.append(&mut part?.messages);
        }
        Ok(all)
    }

    /// One message.
    ///
    /// # Errors
    /// `NotFound`, or any.
    pub async fn show(&self, id: QueueId) -> Result<Shown, ClientError> {
        self.json(Method::GET, &format!("/queue/{id}"), None).await
    }

    /// Changes messages, in steps: it goes on only as long as the parts are taken.
    ///
    /// # Errors
    /// Any; then nothing was changed, or, after `Broken`, nobody knows. An error in place of a part says nothing
    /// against the parts before it; after `Broken`, one more step may have been taken.
    pub async fn changing(&self, request: &ChangeRequest) -> Result<Parts<Changed>, ClientError> {
        let body = serde_json::to_vec(request).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.parts(Method::POST, "/queue/change", Some(body)).await
    }

    /// Changes messages, and says all at once which: for few.
    ///
    /// # Errors
    /// Any; then a part may have been changed.
    pub async fn change(&self, request: &ChangeRequest) -> Result<Changed, ClientError> {
        let (mut parts, mut all) = (self.changing(request).await?, Changed::default());
        while let Some(part) = parts.next().await {
            let mut part = part?;
            all.ids.append(&mut part.ids);
            all.being_sent.append(&mut part.being_sent);
            all.unreadable.append(&mut part.unreadable);
            all.prospects.append(&mut part.prospects);
        }
        Ok(all)
    }

    /// Writes head and content of a message.
    ///
    /// # Errors
    /// `NotFound` when there is no message or its content is gone; any, with a part written.
    pub async fn body(&self, id: QueueId, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), ClientError> {
        let mut body = self.request(Method::GET, &format!("/queue/{id}/body"), None).await?.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame?.into_data() {
                to.write_all(&chunk).await.map_err(ClientError::Write)?;
            }
        }
        to.flush().await.map_err(ClientError::Write)
    }

    /// Pauses or resumes an account.
    ///
    /// # Errors
    /// `NotFound`, or any.
    pub async fn set_paused(&self, mailbox: &str, paused: bool) -> Result<(), ClientError> {
        let action = if paused { "pause" } else { "resume" };
        let path = format!("/accounts/{}/{action}", percent(mailbox));
        self.request(Method::POST, &path, None).await.map(|_| ())
    }

    /// Has the account tried now, as somebody has mended it.
    ///
    /// # Errors
    /// `NotFound`, or any.
    pub async fn probe(&self, mailbox: &str) -> Result<(), ClientError> {
        let path = format!("/accounts/{}/probe", percent(mailbox));
        self.request(Method::POST, &path, None).await.map(|_| ())
    }

    /// Everything that is remembered of devices.
    ///
    /// # Errors
    /// Any.
    pub async fn devices(&self) -> Result<DeviceList, ClientError> {
        self.json(Method::GET, "/devices", None).await
    }

    /// Marks who was refused as seen.
    ///
    /// # Errors
    /// `NotFound`, or any.
    pub async fn device_seen(&self, address: IpAddr) -> Result<(), ClientError> {
        self.request(Method::POST, &format!("/devices/{address}/seen"), None).await.map(|_| ())
    }

    /// Gives a device a name, or with an empty one takes it away.
    ///
    /// # Errors
    /// `NotFound`, or any.
    pub async fn name_device(&self, address: IpAddr, name: &str) -> Result<(), ClientError> {
        let naming = serde_json::to_vec(&Naming { name: name.to_owned() });
        let json = naming.map_err(|e| ClientError::Broken(e.to_string()))?;
        self.request(Method::POST, &format!("/devices/{address}/name"), Some(json)).await.map(|_| ())
    }

    /// Has the relay read its configuration again; the keys whose new values count only after a restart.
    ///
    /// # Errors
    /// `Refused`, with what is wrong; nothing has changed then. Any.
    pub async fn reload(&self) -> Result<Vec<String>, ClientError> {
        self.json(Method::POST, "/reload", None).await
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => ClientError::Broken(e.to_string()),
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if json.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(json.unwrap_or_default())))
            .map_err(|e| ClientError::Broken(e.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.map_err(|_| ClientError::Broken(format!("nothing within {PATIENCE:?}")))??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = answer.into_body().collect().await?.to_bytes();
        let said = serde_json::from_slice::<Refusal>(&bytes)
            .map_or_else(|_| Escaped(&bytes).to_string(), |refusal| refusal.error);
        Err(if status == StatusCode::NOT_FOUND {
            ClientError::NotFound(said)
        } else {
            ClientError::Refused(said)
        })
    }

    async fn parts<T>(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<Parts<T>, ClientError> {
        let answer = self.request(method, path, json).await?;
        Ok(Parts { body: answer.into_body(), read: BytesMut::new(), is_over: false, of: PhantomData })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let bytes = self.request(method, path, json).await?.into_body().collect().await?.to_bytes();
        understood(&bytes)
    }
}

fn understood<T: DeserializeOwned>(json: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json)
        .map_err(|e| ClientError::Broken(format!("{e}: is the daemon of another version?")))
}

/// An answer that comes in parts.
pub struct Parts<T> {
    body: Incoming,
    read: BytesMut,
    is_over: bool,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Parts<T> {
    /// The next part; `None` at the end. An error is the end, and what was given before it stands.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        if self.is_over {
            return None;
        }
        match self.line().await {
            Ok(Line::Part(part)) => return Some(Ok(part)),
            Ok(Line::End) => self.is_over = true,
            Ok(Line::Failed(why)) => {
                self.is_over = true;
                return Some(Err(ClientError::Refused(why)));
            }
            Err(e) => {
                self.is_over = true;
                return Some(Err(e));
            }
        }
        None
    }

    async fn line(&mut self) -> Result<Line<T>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.read[searched..]) {
                let line = self.read.split_to(searched + end);
                self.read.advance(1);
                return understood(&line);
            }
            searched = self.read.len();
            if searched > MAX_LINE_BYTES {
                return Err(ClientError::Broken("a line without an end".to_owned()));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            match frame.map_err(|_| ClientError::Broken(format!("nothing within {PATIENCE:?}")))? {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None => return Err(ClientError::Broken("it ends in the middle".to_owned())),
            }
        }
    }
}

/// The selection as a query string.
fn query(select: &Select) -> String {
    let fields = match serde_json::to_value(select) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let pair = |(name, value): (String, serde_json::Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={}", percent(&text))
    };
    fields.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

/// RFC 3986 section 2.1, everything but unreserved characters.
fn percent(text: &str) -> impl Display {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_survives_being_a_query() {
        let select = Select {
            client: Some("front desk & co".to_owned()),
            state: Some(crate::mail::State::Dead),
            ..Select::default()
        };
        assert_eq!(query(&select), "client=front%20desk%20%26%20co&limit=0&state=dead");
    }
}
