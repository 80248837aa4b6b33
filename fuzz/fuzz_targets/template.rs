//! Chat templates: a template and, after a zero byte, a conversation as JSON.
#![no_main]

use anatomy::template::{Conversation, Template};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let source = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let given = parts.next().and_then(|json| serde_json::from_slice(json).ok());
    let given = given.unwrap_or_else(|| json!([{"role": "system", "content": "s"}, {"role": "user", "content": "é <b> 1"},
        {"role": "assistant", "content": [{"type": "text", "text": "t"}], "n": [1, 2.5, null, true, {"k": "v"}]}]));
    let Ok(template) = Template::parse("fuzz", &source) else { return };
    if let Ok(conversation) = Conversation::from_json(given) {
        let _ = template.render(&conversation).map_err(|error| error.to_string());
    }
    template.lint();
    template.facts(&Map::new()).sentences();
});
