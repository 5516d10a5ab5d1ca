//! Writing protocol buffers, as much of them as OTLP needs, and reading one number out of an answer.
//!
//! Protocol Buffers encoding: varints, fixed64, and what has a length. It knows no schema.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;
/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A number of any size; zero is not written, it is what is read where nothing stands.
    pub fn varint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.always(field, value);
        }
    }

    /// A number that is written also where it is zero: as the choice of a `oneof`.
    pub fn always(&mut self, field: u64, value: u64) {
        self.key(field, VARINT);
        self.raw(value);
    }

    /// A number of eight bytes, written also where it is zero.
    pub fn fixed64(&mut self, field: u64, value: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A floating-point number, written also where it is zero.
    pub fn double(&mut self, field: u64, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// Bytes; none are not written.
    pub fn bytes(&mut self, field: u64, value: &[u8]) {
        if !value.is_empty() {
            self.key(field, LENGTH);
            self.raw(value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }

    /// A text; an empty one is not written.
    pub fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A message inside, written also where it is empty.
    pub fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inside = Message::default();
        write(&mut inside);
        self.key(field, LENGTH);
        self.raw(inside.0.len() as u64);
        self.0.append(&mut inside.0);
    }

    /// Numbers of eight bytes, packed.
    pub fn packed(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let bytes: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &bytes);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.raw(field << 3 | kind);
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// One that nobody asks for here.
    Fixed,
}

/// The first value of a field in a message; `None` where it is not there, or the message is broken before it.
pub fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let value = match key & 7 {
            VARINT => Field::Varint(take_varint(&mut message)?),
            FIXED64 => take(&mut message, 8).map(|_| Field::Fixed)?,
            FIXED32 => take(&mut message, 4).map(|_| Field::Fixed)?,
            LENGTH => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                Field::Bytes(take(&mut message, length)?)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for index in 0..VARINT_BYTES_MAX {
        let [byte] = take(from, 1)? else { return None };
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * index).ok()?)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_written_as_the_encoding_says() {
        let mut message = Message::default();
        message.varint(1, 150);
        message.varint(2, 0);
        message.text(2, "testing");
        message.text(3, "");
        message.message(3, |inside| inside.always(1, 0));
        message.packed(4, [1, 2].into_iter());
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x02\x08\x00\x22\x10\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(message.0, expected);
    }

    #[test]
    fn a_field_is_found_and_broken_messages_are_given_up() {
        let mut message = Message::default();
        message.fixed64(9, 1);
        message.message(1, |inside| {
            inside.varint(1, u64::MAX);
            inside.text(2, "too many");
        });
        let Some(Field::Bytes(inside)) = find(&message.0, 1) else { panic!("no field") };
        assert_eq!(find(inside, 1), Some(Field::Varint(u64::MAX)));
        assert_eq!((find(inside, 2), find(inside, 3)), (Some(Field::Bytes(b"too many")), None));
        for broken in
            [&b"\x0a\x05ab"[..], b"\x08", b"\x0b\x01", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[0xff; 12]]
        {
            assert_eq!(find(broken, 1), None, "{broken:?}");
        }
    }
}
