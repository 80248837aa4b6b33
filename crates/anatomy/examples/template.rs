//! Renders conversations by chat templates, for comparing with other implementations: each line of standard input is
//! an object with `template`, `conversation` and `now` (`2024-07-26T08:05:09`); each line of output has `text`, or
//! `error` and its `kind`. A line without a conversation asks for the template's facts and what is wrong with it.

use anatomy::template::{Conversation, Template};
use serde_json::{Value, json};

#[allow(clippy::print_stdout, clippy::indexing_slicing)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lines() {
        let mut request: Value = serde_json::from_str(&line?)?;
        let source = request["template"].as_str().unwrap_or_default();
        let answer = match Template::parse("template", source) {
            Ok(template) if request["conversation"].is_null() => {
                let variables = request["variables"].as_object().cloned().unwrap_or_default();
                json!({"facts": template.facts(&variables), "lint": template.lint()})
            }
            Ok(template) => {
                let mut conversation = Conversation::from_json(request["conversation"].take())?;
                conversation.now = request["now"].as_str().map(str::parse).transpose()?;
                match template.render(&conversation) {
                    Ok(rendered) => json!({"text": rendered.text, "generation": rendered.generation}),
                    Err(error) => json!({"error": error.message, "kind": error.kind, "shown": error.to_string()}),
                }
            }
            Err(error) => json!({"error": error.message, "kind": error.kind, "shown": error.to_string()}),
        };
        println!("{answer}");
    }
    Ok(())
}
