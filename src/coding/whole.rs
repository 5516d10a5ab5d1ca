//! Compressing bytes that are all there.
//!
//! By libdeflate, which sees the whole input: the same size as the streams' coder in two thirds of the time, and
//! nothing for streams (ADR 32). Decompressing stays with the one coder that bounds what comes out.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor};

use super::{Format, Refused};

/// States that a thread keeps, each of one level: some hundred kilobytes.
const SPARES_MAX: usize = 2;

thread_local! {
    static SPARES: RefCell<Vec<(u32, Compressor)>> = const { RefCell::new(Vec::new()) };
}

/// The bytes in this form; `level` from 1 to 9. It fails only where the library breaks its word on its bound.
pub fn compress(format: Format, level: u32, data: &[u8]) -> Result<Vec<u8>, Refused> {
    let level = level.clamp(1, 9);
    let spare = SPARES.with_borrow_mut(|spares| {
        let at = spares.iter().position(|(of, _)| *of == level)?;
        Some(spares.swap_remove(at).1)
    });
    let mut compressor = spare.unwrap_or_else(|| {
        let level = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
        Compressor::new(level.unwrap_or_default())
    });
    // Room for the worst case.
    let bound = match format {
        Format::Gzip => compressor.gzip_compress_bound(data.len()),
        Format::Zlib => compressor.zlib_compress_bound(data.len()),
        Format::Deflate => compressor.deflate_compress_bound(data.len()),
    };
    let mut out = vec![0; bound];
    let written = match format {
        Format::Gzip => compressor.gzip_compress(data, &mut out),
        Format::Zlib => compressor.zlib_compress(data, &mut out),
        Format::Deflate => compressor.deflate_compress(data, &mut out),
    };
    out.truncate(written.map_err(|_| Refused::Invalid("it cannot be compressed"))?);
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARES_MAX {
            spares.push((level, compressor));
        }
    });
    Ok(out)
}
