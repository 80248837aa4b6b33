//! Streams without a frame of their own, as 7z archives hold them: what a frame would say stands elsewhere.

use lzma_rust2::filter::{FilterConfig, FilterType, StreamFilter};
use lzma_rust2::{Lzma2Reader, LzmaReader};

use super::{Decoded, Fault, MEMORY, Method, Sink, decode, fault};
use crate::error::Result;
use crate::source::Source;

/// One step of unpacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Coder {
    /// Bytes as they are.
    Copy,
    /// LZMA with its properties and the size of its dictionary.
    Lzma(u8, u32),
    /// LZMA2 with the size of its dictionary.
    Lzma2(u32),
    /// A method of [`decode`].
    Framed(Method),
    /// A filter for code of some processor, or of differences.
    Filter(Filter),
}

/// A reversible change that makes bytes pack better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Delta(u32),
    X86,
    PowerPc,
    Ia64,
    Arm,
    ArmThumb,
    Sparc,
    Arm64,
    RiscV,
}

impl Filter {
    fn config(self) -> FilterConfig {
        let (filter_type, property) = match self {
            Filter::Delta(distance) => (FilterType::Delta, distance),
            Filter::X86 => (FilterType::BcjX86, 0),
            Filter::PowerPc => (FilterType::BcjPpc, 0),
            Filter::Ia64 => (FilterType::BcjIa64, 0),
            Filter::Arm => (FilterType::BcjArm, 0),
            Filter::ArmThumb => (FilterType::BcjArmThumb, 0),
            Filter::Sparc => (FilterType::BcjSparc, 0),
            Filter::Arm64 => (FilterType::BcjArm64, 0),
            Filter::RiscV => (FilterType::BcjRiscv, 0),
        };
        FilterConfig { filter_type, property }
    }
}

/// Unpacks `packed` by one step, to `size` bytes as declared and to `room` bytes at most.
pub(crate) fn unpack(packed: &Source, coder: &Coder, size: u64, room: u64) -> Result<Decoded> {
    let mut out = Sink { bytes: Vec::new(), room: room.min(size) };
    let mut input = super::feed::Feed::new(packed);
    let outcome = match coder {
        Coder::Copy => out.take(&mut input),
        Coder::Lzma(properties, dictionary) => match memory(*dictionary).and_then(|()| {
            LzmaReader::new_with_props(&mut input, size, *properties, *dictionary, None).map_err(|e| fault(&e))
        }) {
            Ok(mut reader) => out.take(&mut reader),
            Err(fault) => Err(fault),
        },
        Coder::Lzma2(dictionary) => {
            memory(*dictionary).and_then(|()| out.take(&mut Lzma2Reader::new(&mut input, *dictionary, None)))
        }
        Coder::Framed(method) => return decode(packed, *method, room.min(size)),
        Coder::Filter(filter) => out.take(&mut input).and_then(|()| {
            let mut filter = StreamFilter::new(&filter.config()).map_err(|error| fault(&error))?;
            filter.decode(&mut out.bytes);
            filter.finish();
            Ok(())
        }),
    };
    if let Some(error) = input.failure() {
        return Err(error);
    }
    let short = room < size;
    let fault = match outcome {
        // What comes beyond the declared size is no longer asked for.
        Err(Fault::Full) if !short => None,
        Err(fault) => Some(fault),
        Ok(()) if (out.bytes.len() as u64) < size && !short => Some(Fault::Cut),
        Ok(()) => None,
    };
    Ok(Decoded { used: input.at(), bytes: out.bytes, fault })
}

fn memory(dictionary: u32) -> std::result::Result<(), Fault> {
    if dictionary / 1024 > MEMORY { Err(Fault::Full) } else { Ok(()) }
}
