//! A text parameter as bytes: those of a variable as they are, all else as its text.

use std::borrow::Cow;

use crate::compile::text::TextParam;
use crate::engine::exchange::Exchange;
use crate::engine::value::Val;
use crate::fault::Fault;

impl TextParam {
    /// The bytes of a parameter; `None` where its one `${}` is absent.
    pub fn octets<'x>(&'x self, x: &'x Exchange) -> Result<Option<Cow<'x, [u8]>>, Box<Fault>> {
        let bytes = match self.value(x)? {
            Val::Absent => return Ok(None),
            Val::Bytes(bytes) => bytes,
            Val::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Val::Text(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            _ => {
                let mut text = String::new();
                self.render(x, &mut text)?;
                Cow::Owned(text.into_bytes())
            }
        };
        Ok(Some(bytes))
    }
}
