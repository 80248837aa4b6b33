//! `--chat`: a conversation as the model's own template writes it.

use std::path::Path;

use anatomy::model::Model;
use anatomy::template::{
    Conversation, Rendered, Template, TemplateError, TemplateErrorKind, Templates, local_time, special_tokens,
};
use anatomy::{Error, ErrorKind};

/// Conversations longer than this are not read, in bytes.
const MAX: u64 = 64 << 20;

/// Renders the conversation of a file with a model's template; the file's own wish for a generation prompt counts,
/// unless the command says that there is to be none.
pub fn render(model: &Model, path: &Path, no_generation_prompt: bool) -> Result<Rendered, Error> {
    let mut conversation = read(path)?;
    if no_generation_prompt {
        conversation.add_generation_prompt = false;
    }
    let beside = beside(model);
    let model = beside.as_ref().unwrap_or(model);
    for (name, token) in special_tokens(model) {
        conversation.variables.entry(name).or_insert(token);
    }
    conversation.now = Some(local_time());
    let refuse = |message: String| Error::new(ErrorKind::Unsupported, message).in_file(&*model.source);
    let templates = Templates::of(model);
    let stated = templates.pick(conversation.template.as_deref(), conversation.tools.is_some()).map_err(refuse)?;
    let rendered = Template::parse(&stated.name, &stated.source).and_then(|template| template.render(&conversation));
    rendered.map_err(|error| told(&error, &model.source))
}

/// The folder of a tokenizer's file that was named alone: its template lies beside it.
fn beside(model: &Model) -> Option<Model> {
    let [file] = model.files.as_slice() else { return None };
    let path = Path::new(&file.path);
    let alone = file.container.tensors.is_empty() && path.is_file() && Templates::of(model).stated.is_empty();
    Model::open(path.parent().filter(|_| alone)?).ok()
}

/// Reads a conversation.
fn read(path: &Path) -> Result<Conversation, Error> {
    let shown = path.display().to_string();
    let malformed = |message: String| Error::malformed(message).in_file(&*shown);
    let length = std::fs::metadata(path).map_err(|error| Error::io(shown.clone(), &error))?.len();
    if length > MAX {
        let message = format!("a conversation of {length} bytes; the limit is {MAX}");
        return Err(Error::new(ErrorKind::Limit, message).in_file(&*shown));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(shown.clone(), &error))?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let json =
        serde_json::from_slice(text).map_err(|error| malformed(format!("the conversation is not JSON: {error}")))?;
    Conversation::from_json(json).map_err(malformed)
}

/// An error of the template in one line.
fn told(error: &TemplateError, model: &str) -> Error {
    let kind = match error.kind {
        TemplateErrorKind::Syntax => ErrorKind::Malformed,
        TemplateErrorKind::Limit => ErrorKind::Limit,
        _ => ErrorKind::Unsupported,
    };
    let message = match (&error.place, error.kind) {
        (Some(place), kind) if kind != TemplateErrorKind::Raised => {
            let (template, line) = (&error.template, place.line);
            format!("chat template '{template}', line {line}: {}, at `{}`", error.message, place.text)
        }
        _ => error.to_string(),
    };
    Error::new(kind, message).in_file(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
                            {% if add_generation_prompt %}[assistant]{% endif %}{{ switch }}";

    fn folder(template: &str, conversation: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"chat_template": template, "bos_token": "<s>"});
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("tokenizer_config.json", &config.to_string());
        write("config.json", r#"{"model_type": "llama"}"#);
        // A vocabulary, so that there is a tokenizer with special tokens.
        write("vocab.txt", "<s>\na\n");
        write("chat.json", conversation);
        folder
    }

    fn chat(template: &str, conversation: &str, no_prompt: bool) -> Result<String, Error> {
        let folder = folder(template, conversation);
        let model = Model::open(folder.path()).unwrap();
        render(&model, &folder.path().join("chat.json"), no_prompt).map(|rendered| rendered.text)
    }

    #[test]
    fn renders_with_the_models_own_template_and_tokens() {
        let list = r#"[{"role": "user", "content": "Hi"}]"#;
        assert_eq!(chat(TEMPLATE, list, false).unwrap(), "<s>[user] Hi\n[assistant]");
        assert_eq!(chat(TEMPLATE, list, true).unwrap(), "<s>[user] Hi\n");
        let full = r#"{"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": false, "switch": 1}"#;
        assert_eq!(chat(TEMPLATE, full, false).unwrap(), "<s>[user] Hi\n1");
    }

    #[test]
    fn errors_are_one_line() {
        let list = r#"[{"role": "user", "content": "Hi"}]"#;
        let broken = chat("{{ messages[0].content + 1 }}", list, false).unwrap_err();
        assert!(broken.message().starts_with("chat template 'default', line 1: "), "{}", broken.message());
        let refused = chat("{{ raise_exception('No') }}", list, false).unwrap_err();
        assert_eq!(refused.message(), "the chat template 'default' refuses the conversation: No");
        assert_eq!(chat(TEMPLATE, "{", false).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(chat(TEMPLATE, "{}", false).unwrap_err().message(), "the conversation has no 'messages'");
    }
}
