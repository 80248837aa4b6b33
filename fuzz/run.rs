//! What a fuzz target of tokenizers does with a file.

use anatomy::source::Source;
use anatomy::tokenizer::{self, Encoder, Options};

/// Reads a file, works out its facts, encodes and decodes.
pub fn tokenizers(name: &str, data: &[u8]) {
    let source = Source::memory(name, data.to_vec());
    for tokenizer in tokenizer::read([(name, &source)]) {
        tokenizer::facts(&tokenizer::Index::new(&tokenizer));
        let Ok(encoder) = Encoder::new(&tokenizer) else { continue };
        for text in ["", " a  b\n1234 größer 你好 🙂\u{301}<s></s>\0", "\u{feff}▁▁x"] {
            let Ok(pieces) = encoder.encode(text, Options::default()) else { continue };
            let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
            let _ = encoder.decode(&ids, true);
        }
    }
}
