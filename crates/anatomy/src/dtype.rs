//! Element types of tensors, with the bytes that they take.

/// An element type or block type. Names are those of the safetensors specification where it has
/// one, else ggml's.
///
/// A type packs `block` elements into `bytes` bytes: `F32` is 1 in 4, `F4` 2 in 1, `Q4_K` 256 in 144.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)] // the names are the field's own
#[rustfmt::skip]
pub enum DType {
    BOOL, U8, I8, U16, I16, U32, I32, U64, I64,
    F16, BF16, F32, F64, C32, C64, C128,
    F8_E4M3, F8_E5M2, F8_E4M3FNUZ, F8_E5M2FNUZ, F8_E8M0,
    F4, F6_E2M3, F6_E3M2, U4, I4, U2, I2, U1,
    QINT8, QUINT8, QINT32, QUINT4X2, QUINT2X4,
    Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0, Q8_1,
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K,
    IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS,
    TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0,
    Q4_0_4_4, Q4_0_4_8, Q4_0_8_8, IQ4_NL_4_4, IQ4_NL_4_8, IQ4_NL_8_8,
    /// Text, Python objects and other elements without a fixed size.
    OBJECT,
    /// A type that this library does not know; a finding says which.
    UNKNOWN,
}

/// What kind of number a type holds; decides whether a tensor can hold learned numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Floating point, real or complex.
    Float,
    /// Blocks of quantised numbers with their scales inside (ggml).
    Block,
    /// Whole numbers: tables, or the container of a packed quantisation.
    Integer,
    /// Truth values: masks.
    Boolean,
    /// Anything else.
    Other,
}

use DType::*;

impl DType {
    /// Name, elements per block, bytes per block, class. A block of 0 elements has no fixed size.
    #[rustfmt::skip]
    const fn row(self) -> (&'static str, u64, u64, Class) {
        use Class::*;
        match self {
            BOOL => ("BOOL", 1, 1, Boolean),
            U8 => ("U8", 1, 1, Integer),
            I8 => ("I8", 1, 1, Integer),
            U16 => ("U16", 1, 2, Integer),
            I16 => ("I16", 1, 2, Integer),
            U32 => ("U32", 1, 4, Integer),
            I32 => ("I32", 1, 4, Integer),
            U64 => ("U64", 1, 8, Integer),
            I64 => ("I64", 1, 8, Integer),
            F16 => ("F16", 1, 2, Float),
            BF16 => ("BF16", 1, 2, Float),
            F32 => ("F32", 1, 4, Float),
            F64 => ("F64", 1, 8, Float),
            C32 => ("C32", 1, 4, Float),
            C64 => ("C64", 1, 8, Float),
            C128 => ("C128", 1, 16, Float),
            F8_E4M3 => ("F8_E4M3", 1, 1, Float),
            F8_E5M2 => ("F8_E5M2", 1, 1, Float),
            F8_E4M3FNUZ => ("F8_E4M3FNUZ", 1, 1, Float),
            F8_E5M2FNUZ => ("F8_E5M2FNUZ", 1, 1, Float),
            F8_E8M0 => ("F8_E8M0", 1, 1, Float),
            F4 => ("F4", 2, 1, Float),
            F6_E2M3 => ("F6_E2M3", 4, 3, Float),
            F6_E3M2 => ("F6_E3M2", 4, 3, Float),
            U4 => ("U4", 2, 1, Integer),
            I4 => ("I4", 2, 1, Integer),
            U2 => ("U2", 4, 1, Integer),
            I2 => ("I2", 4, 1, Integer),
            U1 => ("U1", 8, 1, Integer),
            QINT8 => ("QINT8", 1, 1, Block),
            QUINT8 => ("QUINT8", 1, 1, Block),
            QINT32 => ("QINT32", 1, 4, Block),
            QUINT4X2 => ("QUINT4X2", 2, 1, Block),
            QUINT2X4 => ("QUINT2X4", 4, 1, Block),
            Q4_0 => ("Q4_0", 32, 18, Block),
            Q4_1 => ("Q4_1", 32, 20, Block),
            Q4_2 => ("Q4_2", 16, 10, Block),
            Q4_3 => ("Q4_3", 16, 12, Block),
            Q5_0 => ("Q5_0", 32, 22, Block),
            Q5_1 => ("Q5_1", 32, 24, Block),
            Q8_0 => ("Q8_0", 32, 34, Block),
            // Two half-precision numbers since 2023; gguf-py still lists the older 40 bytes.
            Q8_1 => ("Q8_1", 32, 36, Block),
            Q2_K => ("Q2_K", 256, 84, Block),
            Q3_K => ("Q3_K", 256, 110, Block),
            Q4_K => ("Q4_K", 256, 144, Block),
            Q5_K => ("Q5_K", 256, 176, Block),
            Q6_K => ("Q6_K", 256, 210, Block),
            Q8_K => ("Q8_K", 256, 292, Block),
            IQ1_S => ("IQ1_S", 256, 50, Block),
            IQ1_M => ("IQ1_M", 256, 56, Block),
            IQ2_XXS => ("IQ2_XXS", 256, 66, Block),
            IQ2_XS => ("IQ2_XS", 256, 74, Block),
            IQ2_S => ("IQ2_S", 256, 82, Block),
            IQ3_XXS => ("IQ3_XXS", 256, 98, Block),
            IQ3_S => ("IQ3_S", 256, 110, Block),
            IQ4_NL => ("IQ4_NL", 32, 18, Block),
            IQ4_XS => ("IQ4_XS", 256, 136, Block),
            TQ1_0 => ("TQ1_0", 256, 54, Block),
            TQ2_0 => ("TQ2_0", 256, 66, Block),
            MXFP4 => ("MXFP4", 32, 17, Block),
            NVFP4 => ("NVFP4", 64, 36, Block),
            Q1_0 => ("Q1_0", 128, 18, Block),
            Q2_0 => ("Q2_0", 64, 18, Block),
            Q4_0_4_4 => ("Q4_0_4_4", 32, 18, Block),
            Q4_0_4_8 => ("Q4_0_4_8", 32, 18, Block),
            Q4_0_8_8 => ("Q4_0_8_8", 32, 18, Block),
            IQ4_NL_4_4 => ("IQ4_NL_4_4", 32, 18, Block),
            IQ4_NL_4_8 => ("IQ4_NL_4_8", 32, 18, Block),
            IQ4_NL_8_8 => ("IQ4_NL_8_8", 32, 18, Block),
            OBJECT => ("OBJECT", 0, 0, Other),
            UNKNOWN => ("UNKNOWN", 0, 0, Other),
        }
    }

    /// Name, as printed and as in JSON.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Elements in a block; 0 where elements have no fixed size.
    pub fn block(self) -> u64 {
        self.row().1
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.row().2
    }

    /// What kind of number it holds.
    pub fn class(self) -> Class {
        self.row().3
    }

    /// Bytes that `elements` take, a last partial block included. `None` on overflow and for types
    /// without a fixed size.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        let (_, block, bytes, _) = self.row();
        if block == 0 {
            return None;
        }
        elements.div_ceil(block).checked_mul(bytes)
    }

    /// Bits that one element takes on average.
    pub fn bits(self) -> f64 {
        let (_, block, bytes, _) = self.row();
        if block == 0 { 0.0 } else { bytes as f64 * 8.0 / block as f64 }
    }

    /// The type with this id in a GGUF or GGML file, retired ids included (ggml.h, `enum ggml_type`).
    #[rustfmt::skip]
    pub fn from_ggml(id: u32) -> Option<Self> {
        const IDS: [DType; 43] = [
            F32, F16, Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0, Q8_1,
            Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K, IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S,
            IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, I8, I16, I32, I64, F64, IQ1_M,
            BF16, Q4_0_4_4, Q4_0_4_8, Q4_0_8_8, TQ1_0, TQ2_0, IQ4_NL_4_4, IQ4_NL_4_8, IQ4_NL_8_8, MXFP4,
            NVFP4, Q1_0, Q2_0,
        ];
        IDS.get(usize::try_from(id).ok()?).copied()
    }

    /// Whether ggml has withdrawn this type, so that today's llama.cpp refuses the file.
    pub fn retired(self) -> bool {
        matches!(self, Q4_2 | Q4_3 | Q4_0_4_4 | Q4_0_4_8 | Q4_0_8_8 | IQ4_NL_4_4 | IQ4_NL_4_8 | IQ4_NL_8_8)
    }

    /// The type that people mean by a name: as in a safetensors header, as ggml has it, or as PyTorch writes it, in
    /// upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.trim().to_ascii_uppercase();
        let alias = match upper.as_str() {
            "FLOAT32" | "FLOAT" | "FP32" => "F32",
            "FLOAT16" | "HALF" | "FP16" => "F16",
            "BFLOAT16" => "BF16",
            "FLOAT64" | "DOUBLE" | "FP64" => "F64",
            "FP8" | "F8" | "FLOAT8_E4M3FN" => "F8_E4M3",
            "FLOAT8_E5M2" => "F8_E5M2",
            "INT8" => "I8",
            "INT4" => "I4",
            other => other,
        };
        let ggml = (0..64).filter_map(Self::from_ggml).find(|dtype| dtype.name() == alias && !dtype.retired());
        Self::from_safetensors(alias).or(ggml).or([U4, I4, U2, I2].into_iter().find(|dtype| dtype.name() == alias))
    }

    /// The type of this name in a safetensors header.
    #[rustfmt::skip]
    pub fn from_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => BOOL, "U8" => U8, "I8" => I8, "U16" => U16, "I16" => I16, "U32" => U32, "I32" => I32,
            "U64" => U64, "I64" => I64, "F16" => F16, "BF16" => BF16, "F32" => F32, "F64" => F64,
            "C64" => C64, "F8_E4M3" => F8_E4M3, "F8_E5M2" => F8_E5M2, "F8_E8M0" => F8_E8M0,
            "F8_E4M3FNUZ" => F8_E4M3FNUZ, "F8_E5M2FNUZ" => F8_E5M2FNUZ,
            "F4" => F4, "F6_E2M3" => F6_E2M3, "F6_E3M2" => F6_E3M2,
            _ => return None,
        })
    }
}
