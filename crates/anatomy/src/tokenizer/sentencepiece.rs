//! SentencePiece's `tokenizer.model`: pieces with scores and types, and the rules of its normaliser.
//!
//! Field numbers from `sentencepiece_model.proto` of <https://github.com/google/sentencepiece>.

use std::collections::HashMap;

use super::{ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Notation, Role, Tokenizer};
use crate::bytes::Reader;
use crate::container::protobuf::{Fields, Value};
use crate::container::sentencepiece::model_type;
use crate::tensor::Span;
use crate::tokenizer::Details;

/// SentencePiece's settings, with the defaults of its own definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentencePieceSettings {
    /// Name of the rules of normalising, such as `nmt_nfkc`.
    pub rules: String,
    /// The rules themselves, as a compiled table of replacements.
    pub charsmap: Vec<u8>,
    /// Whether a blank is put before the text.
    pub add_dummy_prefix: bool,
    /// Whether runs of blanks become one, and those at the ends none.
    pub remove_extra_whitespaces: bool,
    /// Whether blanks are written as `▁`.
    pub escape_whitespaces: bool,
    /// Whether the blank goes to the end of words instead of their begin.
    pub treat_whitespace_as_suffix: bool,
    /// What unknown text is decoded to.
    pub unk_surface: String,
    /// Ids of unknown, begin, end and padding; negative where there is none.
    pub ids: [i64; 4],
}

impl Default for SentencePieceSettings {
    fn default() -> Self {
        SentencePieceSettings {
            rules: String::new(),
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            treat_whitespace_as_suffix: false,
            unk_surface: " \u{2047} ".to_string(),
            ids: [0, 1, 2, -1],
        }
    }
}

/// Longest piece that is kept, in bytes.
const MAX_PIECE: u64 = 1 << 20;
/// Longest table of replacements; the usual ones have some 300 KB.
const MAX_CHARSMAP: u64 = 64 << 20;

pub(super) fn read(file: &File) -> Tokenizer {
    let mut tokenizer = file.tokenizer("sentencepiece");
    tokenizer.model = "unigram".to_string();
    tokenizer.notation = Notation::Blanks;
    let mut settings = SentencePieceSettings::default();
    let mut names: HashMap<&str, String> = HashMap::new();
    let mut reader = Reader::new(file.source, 0);
    let mut fields = Fields::of_source(&reader);
    let mut refused = 0u64;
    let mut id = 0u32;
    loop {
        let field = match fields.next(&mut reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(fault) => {
                tokenizer.unread(&crate::Error::malformed(fault.what).at(fault.at));
                break;
            }
        };
        let Value::Bytes(span) = field.value else { continue };
        match field.number {
            1 => {
                match piece(&mut reader, span, id) {
                    Some(entry) if tokenizer.entries.len() < MAX_ENTRIES => tokenizer.entries.push(entry),
                    _ => refused += 1,
                }
                id = id.saturating_add(1);
            }
            2 => {
                tokenizer.model = model_type(&mut reader, span).to_string();
                trainer(&mut reader, span, &mut settings, &mut names, &mut tokenizer.byte_fallback);
            }
            3 => normalizer(&mut reader, span, &mut settings),
            _ => {}
        }
    }
    if fields.offset() > file.source.len() {
        let message = format!("the file ends at byte {}, within the tokenizer", file.source.len());
        tokenizer.unread(&crate::Error::malformed(message).at(file.source.len()));
    }
    if refused > 0 {
        tokenizer.problem(&ENTRY_BROKEN, format!("{refused} pieces are no text with score and type, or are too many"));
    }
    roles(&mut tokenizer, &settings, &names);
    describe(&mut tokenizer, &settings);
    tokenizer.details = Details::SentencePiece(Box::new(settings));
    tokenizer
}

fn piece(reader: &mut Reader, span: Span, id: u32) -> Option<Entry> {
    let mut fields = Fields::within(span);
    let mut entry = Entry { id, stored: Box::default(), score: Some(0.0), kind: EntryKind::Normal };
    while let Some(field) = fields.next(reader).ok()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) if text.len <= MAX_PIECE => {
                reader.seek(text.start);
                entry.stored = reader.bytes(text.len).ok()?.into();
            }
            (1, Value::Bytes(_)) => return None,
            (2, Value::Fixed32(bits)) => entry.score = Some(f32::from_bits(bits)),
            (3, Value::Varint(kind)) => {
                entry.kind = match kind {
                    1 => EntryKind::Normal,
                    2 => EntryKind::Unknown,
                    3 => EntryKind::Control,
                    4 => EntryKind::UserDefined,
                    5 => EntryKind::Unused,
                    6 => EntryKind::Byte,
                    _ => return None,
                };
            }
            _ => {}
        }
    }
    Some(entry)
}

fn trainer(
    reader: &mut Reader,
    span: Span,
    settings: &mut SentencePieceSettings,
    names: &mut HashMap<&'static str, String>,
    byte_fallback: &mut bool,
) {
    let mut fields = Fields::within(span);
    while let Ok(Some(field)) = fields.next(reader) {
        match (field.number, field.value) {
            (24, Value::Varint(flag)) => settings.treat_whitespace_as_suffix = flag != 0,
            (35, Value::Varint(flag)) => *byte_fallback = flag != 0,
            // Whole numbers of 32 bits are stored with their sign extended to 64.
            (40..=43, Value::Varint(number)) => {
                let place = usize::try_from(field.number - 40).unwrap_or_default();
                if let Some(slot) = settings.ids.get_mut(place) {
                    *slot = number.cast_signed();
                }
            }
            (44, Value::Bytes(span)) => settings.unk_surface = text(reader, span, 256).unwrap_or_default(),
            (45..=48, Value::Bytes(span)) => {
                let role = ["unk", "bos", "eos", "pad"].get(usize::try_from(field.number - 45).unwrap_or_default());
                names.extend(role.copied().zip(text(reader, span, 256)));
            }
            _ => {}
        }
    }
}

fn normalizer(reader: &mut Reader, span: Span, settings: &mut SentencePieceSettings) {
    let mut fields = Fields::within(span);
    while let Ok(Some(field)) = fields.next(reader) {
        match (field.number, field.value) {
            (1, Value::Bytes(span)) => settings.rules = text(reader, span, 256).unwrap_or_default(),
            (2, Value::Bytes(span)) if span.len <= MAX_CHARSMAP => {
                reader.seek(span.start);
                settings.charsmap = reader.bytes(span.len).unwrap_or_default();
            }
            (3, Value::Varint(flag)) => settings.add_dummy_prefix = flag != 0,
            (4, Value::Varint(flag)) => settings.remove_extra_whitespaces = flag != 0,
            (5, Value::Varint(flag)) => settings.escape_whitespaces = flag != 0,
            _ => {}
        }
    }
}

fn text(reader: &mut Reader, span: Span, most: u64) -> Option<String> {
    crate::container::protobuf::text(reader, span, most)
}

fn roles(tokenizer: &mut Tokenizer, settings: &SentencePieceSettings, names: &HashMap<&str, String>) {
    let keys = [("unk", "unk_id"), ("bos", "bos_id"), ("eos", "eos_id"), ("pad", "pad_id")];
    for ((role, key), id) in keys.into_iter().zip(settings.ids) {
        let Ok(id) = u64::try_from(id) else { continue };
        let stored = tokenizer.entries.get(usize::try_from(id).unwrap_or(usize::MAX));
        // The padding's default is "none", and a stated id beyond the vocabulary names nothing.
        let Some(stored) = stored else { continue };
        let stored = String::from_utf8_lossy(&stored.stored).into_owned();
        let token = if stored.is_empty() { names.get(role).cloned() } else { Some(stored) };
        let stated = format!("{}: {key}", tokenizer.source);
        tokenizer.roles.push(Role { role, token, id: Some(id), by_id: true, stated });
    }
}

fn describe(tokenizer: &mut Tokenizer, settings: &SentencePieceSettings) {
    let mut steps = Vec::new();
    if !settings.charsmap.is_empty() {
        let name = if settings.rules.is_empty() { "its own" } else { &settings.rules };
        steps.push(format!("SentencePiece's table of replacements ({name})"));
    }
    if settings.remove_extra_whitespaces {
        steps.push("runs of blanks become one, those at the ends none".to_string());
    }
    if settings.add_dummy_prefix {
        let place = if settings.treat_whitespace_as_suffix { "behind" } else { "before" };
        steps.push(format!("a blank put {place} the text"));
    }
    if settings.escape_whitespaces {
        steps.push("blanks as ▁".to_string());
    }
    tokenizer.normalizer = steps;
    if tokenizer.byte_fallback {
        tokenizer.decoder.push("<0x0A> and the like become bytes".to_string());
    }
    tokenizer.decoder.push("▁ becomes a blank".to_string());
}

/// The ids that are put round a text.
///
/// Where no configuration says, the file itself cannot: byte-pair models are of Llama's kind, whose class puts the begin
/// before a text; unigram models without a begin are of T5's, whose class puts the end behind it (`LlamaTokenizer` and
/// `T5Tokenizer` of transformers).
pub(super) fn round(tokenizer: &Tokenizer) -> (Option<u32>, Option<u32>) {
    let id = |role: &str| tokenizer.role(role).find_map(|role| u32::try_from(role.id?).ok());
    let own = |role: &str| tokenizer.role(role).any(|role| role.by_id && role.stated.starts_with(&tokenizer.source));
    let stated = |flag: &Option<super::Stated<bool>>| flag.as_ref().map(|flag| flag.value);
    let first = stated(&tokenizer.configuration.add_bos).unwrap_or(tokenizer.model == "bpe");
    let t5 = tokenizer.model == "unigram" && !own("bos");
    let last = stated(&tokenizer.configuration.add_eos).unwrap_or(t5);
    (id("bos").filter(|_| first), id("eos").filter(|_| last))
}
