//! Packed quantisations: how many numbers a tensor stands for.
//!
//! A quantised checkpoint stores codes in a wider integer type, with scales and other tables beside them. Each scheme
//! is known by the names of its tensors and their types; shapes then give the count, since the scales of a group say
//! how many columns there are. The configuration fills in what shapes leave open (group sizes of MLX, bits of a lone
//! `weight_packed`), and where it contradicts shapes, shapes win.
//!
//! Layouts are those of AutoGPTQ/GPTQModel, AutoAWQ, bitsandbytes, compressed-tensors, NVIDIA ModelOpt, OpenAI's
//! gpt-oss, MLX, HQQ, AQLM, Quanto, EETQ and BitNet, as their libraries write them.

use std::fmt;

use foldhash::{HashMap, HashMapExt};
use serde_json::Value;

use crate::dtype::{Class, DType};
use crate::tensor::{Tensor, elements};

/// A tensor to be counted.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The tensor as its file lists it.
    pub tensor: &'a Tensor,
    /// Which of the model's files it is in; storages are numbered within a file.
    pub file: usize,
    /// Whether its name says that it is a table and no learned number ([`crate::names::Part::buffer`]).
    pub buffer: bool,
}

/// What a tensor stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Logical {
    /// Shape of the numbers, where it differs from the stored one and is known.
    pub shape: Option<Vec<u64>>,
    /// Learned numbers, each counted once over the whole model.
    pub parameters: u64,
    /// Whether it is a scale, zero point, index or other table: no parameters, whatever its size.
    pub side: bool,
    /// How its numbers are packed.
    pub scheme: Option<Scheme>,
}

/// A way to store numbers in fewer bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Name for people: `GPTQ`, `bitsandbytes NF4`, `MXFP4`.
    pub method: &'static str,
    /// Bits of a code; 0 where shapes and configuration leave it open.
    pub bits: u64,
    /// Numbers that share a scale, along a row; `None` for a scale per row or tensor, and where it is unknown.
    pub group: Option<u64>,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method)?;
        // Types whose name says their width.
        if self.bits != 0 && !self.method.ends_with(|c: char| c.is_ascii_digit()) {
            write!(f, " {}-bit", self.bits)?;
        }
        match self.group {
            Some(group) => write!(f, ", group {group}"),
            None => Ok(()),
        }
    }
}

/// What all tensors of a model stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// One for each entry, in their order.
    pub tensors: Vec<Logical>,
    /// The schemes met, with the tensors and parameters that each packs; the one with most parameters first.
    pub schemes: Vec<(Scheme, usize, u64)>,
}

impl Packing {
    /// Learned numbers of the model.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.parameters))
    }
}

/// Counts what tensors stand for. `config` is the model's `config.json`, or the quantisation's own file.
pub fn logical(entries: &[Entry], config: Option<&Value>) -> Packing {
    let reader = Reader {
        tensors: if entries.iter().any(|entry| may_pack(entry.tensor)) {
            entries.iter().map(|entry| (entry.tensor.name.as_str(), entry.tensor)).collect()
        } else {
            HashMap::new()
        },
        config: Config::new(config),
    };
    let mut tensors: Vec<Logical> =
        entries.iter().map(|entry| if entry.buffer { Logical::SIDE } else { reader.read(entry.tensor) }).collect();
    count_storages_once(entries, &mut tensors);

    let mut schemes: Vec<(Scheme, usize, u64)> = Vec::new();
    let mut places: HashMap<Scheme, usize> = HashMap::new();
    for tensor in &tensors {
        let Some(scheme) = tensor.scheme else { continue };
        let place = *places.entry(scheme).or_insert_with(|| {
            schemes.push((scheme, 0, 0));
            schemes.len() - 1
        });
        if let Some((_, count, parameters)) = schemes.get_mut(place) {
            *count += 1;
            *parameters = parameters.saturating_add(tensor.parameters);
        }
    }
    schemes.sort_by_key(|(_, _, parameters)| std::cmp::Reverse(*parameters));
    Packing { tensors, schemes }
}

/// Last words of names that are tables wherever they stand.
#[rustfmt::skip]
const SIDES: &[&str] = &[
    "qzeros", "g_idx", "weight_g_idx", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale",
    "weight_zero_point", "weight_shape", "weight_scales", "weight_format", "input_scale", "input_scale_inv",
    "input_global_scale", "input_zero_point", "activation_scale", "input_activation_scale",
    "output_activation_scale", "zero_point", "SCB", "weight_channel_wise_scale", "absmax", "quant_map",
    "nested_absmax", "nested_quant_map",
    // ExLlamaV2 and ExLlamaV3.
    "q_groups", "q_group_map", "q_invperm", "q_scale_max", "suh", "svh",
];

/// The same as endings of a last word, where a module is one tensor: `experts.gate_up_proj_weight_scale`.
const SIDE_ENDINGS: &[&str] =
    &["_weight_scale", "_weight_scale_inv", "_weight_scale_2", "_weight_global_scale", "_input_scale", "_scale_inv"];

/// Scales of an FP8 cache: one number each, so that a learned vector of such a name is not lost.
const CACHE_SCALES: &[&str] = &["k_scale", "v_scale", "q_scale", "kv_scale", "prob_output_scale"];

/// Last words that are tables only beside a tensor of one of the given last words, which is packed: a bare `scale`
/// or `scales` may well be learned. An empty word is the name without its last.
#[rustfmt::skip]
const SIDES_OF: &[(&str, &[&str])] = &[
    ("scales", &["qweight", "weight", "codes"]),
    ("biases", &["weight"]),
    ("codebooks", &["codes"]),
    ("scale", &["weight", "qweight", "W_q", ""]),
    ("scale_inv", &["weight", ""]),
    ("zero", &["W_q"]),
    ("meta", &["W_q"]),
    // Spark's: what four bits leave over, in low rank, and the channels that are kept in eight.
    ("res_u", &["qweight"]),
    ("res_v", &["qweight"]),
    ("salient_idx", &["qweight"]),
    ("salient_weight", &["qweight"]),
    ("salient_scale", &["qweight"]),
    ("_scale", &["_data", "_data._data"]),
    ("_shift", &["_data", "_data._data"]),
];

/// The last words under which schemes keep a weight's scales.
const SCALES: &[&str] = &["weight_scale", "scale", "scales", "SCB", "weight_scales", "weight_scale_inv"];

/// What schemes put behind the weight's own name for the same.
const SCALE_ENDINGS: &[&str] = &[".scale", "_weight_scale", "_scale"];

/// Whether the last word of a name is one that schemes give to what they store beside a packed weight.
pub(crate) fn is_side_word(word: &str) -> bool {
    SIDES.contains(&word)
        || SIDES_OF.iter().any(|(side, _)| *side == word)
        || SIDE_ENDINGS.iter().any(|ending| word.ends_with(ending))
}

/// Whether the last word of a name is that of a scale of an FP8 cache, which stands beside no weight of its own.
pub(crate) fn is_cache_scale(word: &str) -> bool {
    CACHE_SCALES.contains(&word)
}

/// Whether a tensor makes it worth looking for others beside it.
fn may_pack(tensor: &Tensor) -> bool {
    tensor.dtype.class() != Class::Float || tensor.name.ends_with("scale") || tensor.name.ends_with("scales")
}

/// Whether a weight is of a type that needs scales.
fn is_packed(weight: &Tensor) -> bool {
    weight.dtype.class() != Class::Float || is_f8(weight.dtype)
}

fn is_f8(dtype: DType) -> bool {
    matches!(dtype, DType::F8_E4M3 | DType::F8_E5M2 | DType::F8_E4M3FNUZ | DType::F8_E5M2FNUZ)
}

impl Logical {
    const SIDE: Logical = Logical { shape: None, parameters: 0, side: true, scheme: None };

    fn plain(tensor: &Tensor) -> Self {
        Logical { shape: None, parameters: tensor.elements(), side: false, scheme: None }
    }

    fn packed(tensor: &Tensor, shape: Vec<u64>, method: &'static str, bits: u64, group: Option<u64>) -> Self {
        let parameters = elements(&shape);
        let shape = Some(shape).filter(|shape| *shape != tensor.shape);
        Logical { shape, parameters, side: false, scheme: Some(Scheme { method, bits, group }) }
    }

    /// Where the count is known and the shape is not.
    fn counted(parameters: u64, method: &'static str, bits: u64, group: Option<u64>) -> Self {
        Logical { shape: None, parameters, side: false, scheme: Some(Scheme { method, bits, group }) }
    }
}

struct Reader<'a> {
    /// All tensors by name; empty where none is packed.
    tensors: HashMap<&'a str, &'a Tensor>,
    config: Config<'a>,
}

impl Reader<'_> {
    fn sibling(&self, stem: &str, leaf: &str) -> Option<&Tensor> {
        let name = match (stem, leaf) {
            (stem, "") => return self.tensors.get(stem).copied(),
            ("", leaf) => return self.tensors.get(leaf).copied(),
            (stem, leaf) => format!("{stem}.{leaf}"),
        };
        self.tensors.get(name.as_str()).copied()
    }

    fn read(&self, tensor: &Tensor) -> Logical {
        let (stem, leaf) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
        let plain = matches!(leaf, "weight" | "bias");
        if !plain && self.is_side(tensor, stem, leaf) || tensor.dtype == DType::F8_E8M0 {
            return Logical::SIDE;
        }
        match tensor.dtype.class() {
            Class::Float if is_f8(tensor.dtype) => {
                let shape = tensor.shape.clone();
                Logical::packed(tensor, shape, "FP8", 8, self.config.block)
            }
            // bitsandbytes may keep its codes in a floating type, for the sake of sharding libraries.
            Class::Float => self.bitsandbytes(tensor).unwrap_or_else(|| Logical::plain(tensor)),
            Class::Block => Logical::plain(tensor),
            Class::Integer => self.integers(tensor, stem, leaf).unwrap_or(Logical::SIDE),
            Class::Boolean | Class::Other => Logical::SIDE,
        }
    }

    /// Whether a tensor is a table of a quantisation, from its name and its neighbours.
    fn is_side(&self, tensor: &Tensor, stem: &str, leaf: &str) -> bool {
        if SIDES.contains(&leaf)
            || SIDE_ENDINGS.iter().any(|ending| leaf.ends_with(ending))
            || CACHE_SCALES.contains(&leaf) && tensor.elements() == 1
            || tensor.name.contains(".quant_state.")
            // llama.cpp keeps scales beside weights of any type, and of none.
            || leaf == "scale" && tensor.name.starts_with("blk.")
        {
            return true;
        }
        if self.tensors.is_empty() {
            return false;
        }
        if let Some((_, owners)) = SIDES_OF.iter().find(|(side, _)| *side == leaf)
            && owners.iter().any(|owner| self.sibling(stem, owner).is_some_and(is_packed))
        {
            return true;
        }
        // gpt-oss, and ONNX, whose scales go with a zero point or with packed codes.
        let beside = |ending: &str, others: &[&str]| {
            let stem = tensor.name.strip_suffix(ending);
            stem.is_some_and(|stem| {
                others.iter().any(|other| self.tensors.contains_key(format!("{stem}{other}").as_str()))
            })
        };
        beside("_scales", &["_blocks", "_Q4"]) || beside("_scale", &["_zero_point", "_quantized"])
    }

    /// Codes in integers; `None` for what is just integers.
    fn integers(&self, tensor: &Tensor, stem: &str, leaf: &str) -> Option<Logical> {
        if let Some(logical) = self.bitsandbytes(tensor) {
            return Some(logical);
        }
        match leaf {
            "qweight" => return self.gptq_or_awq(tensor, stem),
            "weight_packed" => return self.compressed_tensors(tensor, stem),
            "W_q" => return self.hqq(tensor, stem),
            "codes" => return self.aqlm(tensor, stem),
            "_data" => return self.quanto(tensor, stem),
            _ => {}
        }
        if let Some(module) = tensor.name.strip_suffix("_blocks")
            && let [outer @ .., groups, 16] = tensor.shape.as_slice()
            && self.tensors.contains_key(format!("{module}_scales").as_str())
        {
            let mut shape = outer.to_vec();
            shape.push(groups.saturating_mul(32));
            return Some(Logical::packed(tensor, shape, "MXFP4", 4, Some(32)));
        }
        // ONNX Runtime's quantisers.
        let beside = |ending: &str, scales: &str| {
            let stem = tensor.name.strip_suffix(ending);
            stem.is_some_and(|stem| self.tensors.contains_key(format!("{stem}{scales}").as_str()))
        };
        if beside("_quantized", "_scale") {
            return Some(Logical::packed(tensor, tensor.shape.clone(), "INT8", 8, None));
        }
        if beside("_Q4", "_scales") {
            return Some(Logical::counted(tensor.elements().saturating_mul(2), "INT4", 4, None));
        }
        let scales = SCALES.iter().find_map(|scales| self.sibling(stem, scales)).or_else(|| {
            let behind = |ending| self.tensors.get(format!("{}{ending}", tensor.name).as_str()).copied();
            SCALE_ENDINGS.iter().find_map(behind)
        })?;
        match tensor.dtype {
            DType::U32 => self.mlx(tensor, stem, scales),
            DType::U8 | DType::I8 => self.bytes(tensor, scales),
            _ => None,
        }
    }

    /// bitsandbytes: four-bit codes flattened to a column, with `absmax` and `quant_map` below the name of the weight
    /// (the shape is in `quant_state`, which is data); eight-bit rows with `SCB` beside it.
    fn bitsandbytes(&self, tensor: &Tensor) -> Option<Logical> {
        if self.tensors.is_empty() {
            return None;
        }
        self.sibling(&tensor.name, "quant_map").or_else(|| self.sibling(&tensor.name, "absmax"))?;
        let has = |leaf| self.sibling(&tensor.name, leaf).is_some();
        let method = if has("quant_state.bitsandbytes__nf4") {
            "bitsandbytes NF4"
        } else if has("quant_state.bitsandbytes__fp4") {
            "bitsandbytes FP4"
        } else {
            "bitsandbytes"
        };
        let codes = tensor.dtype.bytes(tensor.elements())?.saturating_mul(2);
        Some(Logical::counted(codes, method, 4, None))
    }

    /// GPTQ packs the rows of `[in, out]`, AWQ its columns; `scales` is `[groups, out]` in both. Three-bit codes run
    /// across words: 32 of them in three.
    fn gptq_or_awq(&self, tensor: &Tensor, stem: &str) -> Option<Logical> {
        if tensor.dtype.block_bytes() == 1 {
            if self.sibling(stem, "res_u").is_some() {
                let (rows, columns) = matrix(tensor)?;
                let groups = self.sibling(stem, "scales").and_then(matrix).map(|(_, groups)| groups);
                let inputs = columns.saturating_mul(2);
                let group = groups.and_then(|groups| inputs.checked_div(groups));
                return Some(Logical::packed(tensor, vec![rows, inputs], "INT4 with residual", 4, group));
            }
            return Some(Logical::packed(tensor, tensor.shape.clone(), "INT8", 8, None));
        }
        let (rows, columns) = matrix(tensor)?;
        let word = tensor.dtype.block_bytes() * 8;
        let scales = self.sibling(stem, "scales").and_then(matrix);
        let out = scales.map_or(columns, |(_, out)| out);
        let group = |inputs: u64| {
            let groups = scales.map_or(0, |(groups, _)| groups);
            inputs.checked_div(groups).filter(|group| *group < inputs)
        };
        if columns != out {
            let stored = columns.checked_mul(word)?;
            let Some(bits) = code_bits(stored, out) else {
                // AutoAWQ's other layout, for single tokens: `[out, in × bits / 32]`.
                let bits = self.config.bits.unwrap_or(4);
                return Some(Logical::packed(
                    tensor,
                    vec![rows, stored.checked_div(bits)?],
                    "AWQ",
                    bits,
                    self.config.group,
                ));
            };
            return Some(Logical::packed(tensor, vec![rows, out], "AWQ", bits, group(rows)));
        }
        let stored = rows.checked_mul(word)?;
        let zeros = self.sibling(stem, "qzeros").and_then(matrix);
        let by_zeros = || code_bits(zeros?.1.checked_mul(word)?, out);
        let by_index = || code_bits(stored, self.sibling(stem, "g_idx")?.elements());
        let bits = by_index().or_else(by_zeros).or(self.config.bits).unwrap_or(4);
        let inputs = stored.checked_div(bits)?;
        Some(Logical::packed(tensor, vec![inputs, out], "GPTQ", bits, group(inputs)))
    }

    /// compressed-tensors: `weight_packed` is `[out, in × bits / 32]` in I32, or `[out, in / 2]` in U8 for FP4. The
    /// exact shape is the data of `weight_shape`.
    fn compressed_tensors(&self, tensor: &Tensor, stem: &str) -> Option<Logical> {
        let (columns, outer) = tensor.shape.split_last()?;
        let groups = self.sibling(stem, "weight_scale").and_then(|scale| scale.shape.last().copied());
        let logical = |inputs, method, bits, group| {
            let mut shape = outer.to_vec();
            shape.push(inputs);
            Logical::packed(tensor, shape, method, bits, group)
        };
        if matches!(tensor.dtype, DType::U8 | DType::I8) {
            let inputs = columns.saturating_mul(2);
            let group = inputs.checked_div(groups?)?;
            let method = if group == 16 {
                "NVFP4"
            } else if group == 32 {
                "MXFP4"
            } else {
                "FP4"
            };
            return Some(logical(inputs, method, 4, Some(group)));
        }
        let module = self.config.module(stem);
        let bits = module.bits.unwrap_or(4);
        let stored = columns.checked_mul(tensor.dtype.block_bytes() * 8)?;
        // Groups end with the row, so they say where it ends within its last word.
        let by_groups = module.group.zip(groups).and_then(|(group, groups)| group.checked_mul(groups));
        let whole = stored.checked_div(bits)?;
        // Codes fill each word; where bits do not divide it, older releases left the rest of each empty.
        let inputs = by_groups.filter(|inputs| *inputs <= whole && whole - inputs < 32.max(whole / 8)).unwrap_or(whole);
        let group = groups.and_then(|groups| inputs.checked_div(groups)).filter(|group| *group < inputs);
        Some(logical(inputs, "compressed-tensors", bits, group))
    }

    /// MLX: `[…, in × bits / 32]` in U32, with `scales` `[…, in / group]`. Shapes give the product of bits and group.
    fn mlx(&self, tensor: &Tensor, stem: &str, scales: &Tensor) -> Option<Logical> {
        let (columns, outer) = tensor.shape.split_last()?;
        let groups = *scales.shape.last()?;
        let stored = columns.checked_mul(32)?;
        let module = self.config.module(stem);
        // Without biases it is a microscaling type, whose scales are bytes.
        let (method, sizes) = match (self.sibling(stem, "biases"), scales.dtype) {
            (None, DType::U8) if stored == groups.checked_mul(128)? => ("MLX MXFP4", [32, 32, 32]),
            (None, DType::U8) => ("MLX NVFP4", [16, 16, 16]),
            _ => ("MLX", [64, 32, 128]),
        };
        let fits = |group: u64| {
            let inputs = groups.checked_mul(group)?;
            Some((inputs, group, code_bits(stored, inputs)?))
        };
        let (inputs, group, bits) = module.group.and_then(fits).or_else(|| sizes.into_iter().find_map(fits))?;
        let mut shape = outer.to_vec();
        shape.push(inputs);
        Some(Logical::packed(tensor, shape, method, bits, Some(group)))
    }

    /// Bytes with scales: two FP4 codes in each, four ternary ones, or one.
    fn bytes(&self, tensor: &Tensor, scales: &Tensor) -> Option<Logical> {
        let (columns, outer) = tensor.shape.split_last()?;
        let groups = scales.shape.last().copied().unwrap_or(1);
        let per_row = scales.shape.len() == tensor.shape.len() && scales.shape.split_last()?.1 == outer;
        // FP4 scales are bytes themselves, one for 16 or 32 codes.
        let small = is_f8(scales.dtype) || matches!(scales.dtype, DType::F8_E8M0 | DType::U8);
        if per_row
            && small
            && let Some(method) = fp4(*columns, groups)
        {
            let inputs = columns.saturating_mul(2);
            let mut shape = outer.to_vec();
            shape.push(inputs);
            return Some(Logical::packed(tensor, shape, method, 4, inputs.checked_div(groups)));
        }
        if tensor.dtype == DType::U8 && (self.config.method == Some("bitnet") || scales.elements() == 1) {
            let mut shape = tensor.shape.clone();
            *shape.first_mut()? = shape.first()?.saturating_mul(4);
            return Some(Logical::packed(tensor, shape, "BitNet", 2, None));
        }
        let method = if tensor.dtype == DType::I8 && self.is_scb(tensor) { "bitsandbytes INT8" } else { "INT8" };
        Some(Logical::packed(tensor, tensor.shape.clone(), method, 8, None))
    }

    fn is_scb(&self, tensor: &Tensor) -> bool {
        tensor.name.rsplit_once('.').is_some_and(|(stem, _)| self.sibling(stem, "SCB").is_some())
    }

    /// HQQ reshapes a weight to groups before it packs: `[groups, group]` with a scale for each row (axis 1) or
    /// `[group, groups]` with one for each column, rows packed either way.
    fn hqq(&self, tensor: &Tensor, stem: &str) -> Option<Logical> {
        let (rows, columns) = matrix(tensor)?;
        let word = tensor.dtype.block_bytes() * 8;
        let scale = self.sibling(stem, "scale").and_then(matrix);
        // Codes fill whole words; three-bit ones lie ten to a word of 32 bits.
        let widths: &[u64] = if word == 8 { &[8, 4, 2, 1] } else { &[3] };
        if let Some((groups, 1)) = scale
            && let Some(bits) = widths.iter().find(|bits| groups.div_ceil(word / **bits) == rows)
        {
            return Some(Logical::counted(groups.checked_mul(columns)?, "HQQ", *bits, Some(columns)));
        }
        let bits = self.config.bits.unwrap_or(4);
        let rows = rows.checked_mul(word.checked_div(bits)?)?;
        let group = self.config.group.filter(|group| *group <= rows).unwrap_or(rows);
        Some(Logical::counted(group.checked_mul(columns)?, "HQQ", bits, Some(group)))
    }

    /// AQLM: `codes` is `[out / g, in / h, books]`, `codebooks` `[books, entries, g, h]`.
    fn aqlm(&self, tensor: &Tensor, stem: &str) -> Option<Logical> {
        let books = self.sibling(stem, "codebooks")?;
        let (&[outs, ins, _], &[_, _, out, inner]) = (tensor.shape.as_slice(), books.shape.as_slice()) else {
            return None;
        };
        let shape = vec![outs.saturating_mul(out), ins.saturating_mul(inner)];
        Some(Logical::packed(tensor, shape, "AQLM", 0, None))
    }

    /// Quanto: `weight._data` in eight bits, `weight._data._data` where codes of four or two bits are packed by rows.
    fn quanto(&self, tensor: &Tensor, stem: &str) -> Option<Logical> {
        let Some(stem) = stem.strip_suffix("._data") else {
            return Some(Logical::packed(tensor, tensor.shape.clone(), "Quanto", 8, None));
        };
        self.sibling(stem, "_scale")?;
        let bits = self.config.bits.filter(|bits| [2, 4].contains(bits)).unwrap_or(4);
        Some(Logical::counted(tensor.elements().checked_mul(8 / bits)?, "Quanto", bits, None))
    }
}

/// The last two dimensions of a matrix.
fn matrix(tensor: &Tensor) -> Option<(u64, u64)> {
    match tensor.shape.as_slice() {
        &[rows, columns] => Some((rows, columns)),
        _ => None,
    }
}

/// Bits of each of `count` codes in `stored` bits; rows may end within a word. `None` where no width fits.
fn code_bits(stored: u64, count: u64) -> Option<u64> {
    let bits = stored.checked_div(count)?;
    let spare = stored - bits * count;
    ((1..=8).contains(&bits) && spare < 32).then_some(bits)
}

/// The FP4 type with one scale for each of `groups` along a row of `bytes`, two codes to a byte.
fn fp4(bytes: u64, groups: u64) -> Option<&'static str> {
    match bytes.checked_div(groups)? {
        8 if bytes.is_multiple_of(8) => Some("NVFP4"),
        16 if bytes.is_multiple_of(16) => Some("MXFP4"),
        _ => None,
    }
}

/// What the configuration says about quantisation.
#[derive(Debug, Default, Clone, Copy)]
struct Config<'a> {
    method: Option<&'a str>,
    bits: Option<u64>,
    group: Option<u64>,
    /// Width of FP8 blocks.
    block: Option<u64>,
    section: Option<&'a Value>,
}

impl<'a> Config<'a> {
    fn new(config: Option<&'a Value>) -> Self {
        let Some(config) = config else { return Config::default() };
        let sections = [Some(config), config.get("text_config"), config.get("llm_config")];
        let keys = ["quantization_config", "quantization", "compression_config"];
        let nested = sections.into_iter().flatten().find_map(|part| keys.iter().find_map(|key| part.get(key)));
        let Some(section) = nested.or_else(|| config.get("quant_method").or(config.get("bits")).map(|_| config)) else {
            return Config::default();
        };
        // compressed-tensors keeps groups of modules; one of them is what real models have.
        let groups = section.get("config_groups").and_then(Value::as_object);
        let weights = groups.and_then(|groups| groups.values().next()).and_then(|group| group.get("weights"));
        // HQQ: {"quant_config": {"weight_quant_params": {…}}}.
        let hqq = section.pointer("/quant_config/weight_quant_params");
        let number = |keys: &[&str]| {
            let parts = [Some(section), weights, hqq];
            parts.into_iter().flatten().find_map(|part| keys.iter().find_map(|key| part.get(key)?.as_u64()))
        };
        let named = match section.get("weights").and_then(Value::as_str) {
            Some("int8" | "float8") => Some(8),
            Some("int4") => Some(4),
            Some("int2") => Some(2),
            _ => None,
        };
        Config {
            method: section.get("quant_method").and_then(Value::as_str),
            bits: number(&["bits", "num_bits", "w_bit", "nbits"]).or(named).filter(|bits| (1..=8).contains(bits)),
            group: number(&["group_size", "q_group_size"]).filter(|group| *group > 0),
            block: section.pointer("/weight_block_size/1").and_then(Value::as_u64),
            section: Some(section),
        }
    }

    /// The same for one module, which MLX may list by name with settings of its own.
    fn module(&self, name: &str) -> Config<'a> {
        let own = |key| self.section?.get(name)?.get(key)?.as_u64();
        let group = own("group_size").filter(|group| *group > 0);
        Config { bits: own("bits").or(self.bits), group: group.or(self.group), ..*self }
    }
}

/// Counts the elements of a storage once, however many tensors look into it: the first to cover an element has it.
fn count_storages_once(entries: &[Entry], tensors: &mut [Logical]) {
    let mut views: Vec<_> = entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| Some((entry.file, entry.tensor.storage?, entry.tensor.elements(), index)))
        .collect();
    views.sort_by_key(|(file, view, elements, index)| {
        (*file, view.storage, view.offset, std::cmp::Reverse(view.extent), *elements, *index)
    });
    for views in views.chunk_by(|a, b| (a.0, a.1.storage) == (b.0, b.1.storage)) {
        let mut covered = 0;
        let mut end = 0;
        let mut before = None;
        for (_, view, elements, index) in views {
            let start = view.offset.max(end);
            end = end.max(view.offset.saturating_add(view.extent));
            let Some(logical) = tensors.get_mut(*index) else { continue };
            // Elements in reach of the views so far. Views with gaps may interleave, so what earlier ones left over
            // within reach is free; the same view again has nothing new.
            covered += end.saturating_sub(start);
            let same =
                before.replace((view.offset, view.extent, *elements)) == Some((view.offset, view.extent, *elements));
            let gaps = view.extent > *elements;
            let fresh = match (same, gaps) {
                (true, _) => 0,
                (false, true) => covered.min(*elements),
                (false, false) => end.saturating_sub(start).min(*elements),
            };
            covered = covered.saturating_sub(fresh);
            if fresh < *elements {
                let share = u128::from(logical.parameters) * u128::from(fresh) / u128::from((*elements).max(1));
                logical.parameters = u64::try_from(share).unwrap_or(u64::MAX);
            }
        }
    }
}
