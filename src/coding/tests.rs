//! Round trips in every split, and what has to be refused.

use super::*;

const WIDE: InflateBounds = InflateBounds { output: 64 * 1024 * 1024, ratio: 2000 };
const ALL: [Format; 3] = [Format::Gzip, Format::Zlib, Format::Deflate];

fn deflated(format: Format, data: &[u8]) -> Vec<u8> {
    code(&mut Deflater::new(format, 6, false), Bytes::copy_from_slice(data)).unwrap()
}

fn inflated(format: Format, data: &[u8], bounds: InflateBounds) -> Result<Vec<u8>, Refused> {
    code(&mut Inflater::new(format, bounds), Bytes::copy_from_slice(data))
}

/// The same, in pieces of so many bytes.
fn in_pieces(coder: &mut dyn Coder, data: &[u8], size: usize) -> Result<Vec<u8>, Refused> {
    let mut pieces = data.chunks(size);
    let mut out = Vec::new();
    loop {
        match coder.pull()? {
            Pull::Data(piece) => out.extend_from_slice(&piece),
            Pull::Done => return Ok(out),
            Pull::Starved => match pieces.next() {
                Some(piece) => coder.push(Bytes::copy_from_slice(piece)),
                None => coder.end(),
            },
        }
    }
}

/// Neither short nor easy to compress.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3f
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn what_goes_in_comes_out_in_every_split() {
    for format in ALL {
        for data in [Vec::new(), b"a".to_vec(), sample(200_000)] {
            let packed = deflated(format, &data);
            assert_eq!(inflated(format, &packed, WIDE).unwrap(), data);
            for size in [1, 7, 5000] {
                let again = in_pieces(&mut Deflater::new(format, 9, false), &data, size.max(50)).unwrap();
                assert_eq!(in_pieces(&mut Inflater::new(format, WIDE), &again, size).unwrap(), data);
            }
        }
    }
}

#[test]
fn what_is_compressed_as_a_whole_is_what_a_stream_would_hold() {
    for format in ALL {
        for data in [Vec::new(), b"a".to_vec(), sample(200_000), b"abcdefgh".repeat(20_000)] {
            for level in 1..=9 {
                let packed = compress(format, level, &data).unwrap();
                assert_eq!(inflated(format, &packed, WIDE).unwrap(), data, "{format:?} {level}");
                assert_eq!(
                    compress(format, level, &data).unwrap(),
                    packed,
                    "a state that served before writes the same"
                );
            }
        }
        let [fast, small] = [1, 9].map(|level| compress(format, level, &sample(200_000)).unwrap().len());
        assert!(small < fast, "{small} {fast}");
    }
}

#[test]
fn a_stream_of_events_is_not_held_back() {
    let mut deflater = Deflater::new(Format::Gzip, 6, true);
    let mut inflater = Inflater::new(Format::Gzip, WIDE);
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        deflater.push(event.into());
        let mut seen = Vec::new();
        while let Pull::Data(packed) = deflater.pull().unwrap() {
            inflater.push(packed);
            while let Pull::Data(plain) = inflater.pull().unwrap() {
                seen.extend_from_slice(&plain);
            }
        }
        assert_eq!(seen, event.as_bytes());
    }
}

#[test]
fn members_of_gzip_count_together_and_nothing_else_follows() {
    let one = deflated(Format::Gzip, &[b'a'; 3000]);
    let twice = [one.clone(), one.clone()].concat();
    assert_eq!(inflated(Format::Gzip, &twice, WIDE).unwrap().len(), 6000);
    let narrow = InflateBounds { output: 5000, ..WIDE };
    assert_eq!(inflated(Format::Gzip, &twice, narrow), Err(Refused::TooLarge { limit: 5000 }));
    for format in ALL {
        let behind = [deflated(format, b"abc"), b"x".to_vec()].concat();
        assert!(matches!(inflated(format, &behind, WIDE), Err(Refused::Invalid(_))), "{format:?}");
    }
}

#[test]
fn broken_data_is_refused() {
    for format in ALL {
        let whole = deflated(format, b"hello hello hello hello");
        for end in 0..whole.len() {
            assert!(matches!(inflated(format, &whole[..end], WIDE), Err(Refused::Invalid(_))), "{format:?} {end}");
        }
        assert!(matches!(inflated(format, b"\xff\xff\xff\xffnonsense", WIDE), Err(Refused::Invalid(_))));
    }
    for format in [Format::Gzip, Format::Zlib] {
        let mut wrong = deflated(format, b"hello");
        let checksum = wrong.len() - if format == Format::Gzip { 8 } else { 4 };
        wrong[checksum] ^= 1;
        assert!(matches!(inflated(format, &wrong, WIDE), Err(Refused::Invalid(_))), "{format:?}");
    }
}

#[test]
fn a_bomb_stops_at_its_bound() {
    let bomb = deflated(Format::Gzip, &vec![0; 10_000_000]);
    assert!(bomb.len() < 20_000);
    let bounds = InflateBounds { output: 1_000_000, ratio: u64::MAX };
    assert_eq!(inflated(Format::Gzip, &bomb, bounds), Err(Refused::TooLarge { limit: 1_000_000 }));
    let bounds = InflateBounds { output: u64::MAX, ratio: 100 };
    assert_eq!(inflated(Format::Gzip, &bomb, bounds), Err(Refused::Ratio { limit: 100 }));
    // Small outputs are free, however well they were packed.
    let small = deflated(Format::Gzip, &vec![0; 64 * 1024]);
    assert_eq!(inflated(Format::Gzip, &small, bounds).unwrap().len(), 64 * 1024);
}

#[test]
fn coders_stand_behind_each_other() {
    let data = sample(100_000);
    let packed = deflated(Format::Gzip, &data);
    let first = Box::new(Inflater::new(Format::Gzip, WIDE));
    let mut chain = Chain { first, second: Box::new(Deflater::new(Format::Zlib, 6, false)) };
    let again = in_pieces(&mut chain, &packed, 1000).unwrap();
    assert_eq!(inflated(Format::Zlib, &again, WIDE).unwrap(), data);
}

#[test]
fn a_state_that_served_before_writes_the_same() {
    let (long, short) = (Bytes::from("abcdefgh".repeat(20_000)), Bytes::from_static(b"abcdefgh"));
    for format in ALL {
        let pack = |data: &Bytes, level| code(&mut Deflater::new(format, level, false), data.clone()).unwrap();
        let first = (pack(&short, 6), pack(&short, 1));
        // One that was given up in the middle, too.
        let mut given_up = Deflater::new(format, 6, true);
        given_up.push(long.clone());
        assert!(matches!(given_up.pull(), Ok(Pull::Data(_))));
        drop(given_up);
        pack(&long, 6);
        assert_eq!((pack(&short, 6), pack(&short, 1)), first);
    }
}
