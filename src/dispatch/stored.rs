//! What the queue keeps, as a letter that may leave.

use crate::queue::{Body, BodyReader};
use crate::submit::{Content, Letter};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io;

impl Letter for Body {
    fn head(&self) -> &[u8] {
        Self::head(self)
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn Content>>> {
        Self::open(self).map(|opened| opened.map(|reader| Box::new(reader) as Box<dyn Content>)).boxed()
    }
}

impl Content for BodyReader {
    fn chunk(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Self::chunk(self).boxed()
    }
}
