//! Classes of a family that have another head than its file describes.
//!
//! Every causal model of transformers comes with the same few classes beside its own (modeling_layers.py): a classifier of
//! texts or tokens whose head is called `score`, one that marks answers (`qa_outputs`), and the bare model without any
//! head or prefix. Token classifiers of GPT-2's age call it `classifier`.

use serde_json::Value as Json;

use super::blueprint::Expected;
use super::class_of;
use super::family::Family;
use crate::names::Role;

/// Labels where a configuration names none.
const LABELS: u64 = 2;

/// Gives the tensors the head of the class that the configuration names, where that is not one of those that the
/// family's file describes. What was taken for granted comes back in words.
pub(super) fn fit(tensors: &mut Vec<Expected>, family: &Family, config: &Json) -> Option<String> {
    let class = class_of(config);
    if class.is_empty() || family.classes.is_empty() || family.classes.iter().any(|known| known == class) {
        return None;
    }
    let known = family.classes.first()?;
    let causal = known.ends_with("ForCausalLM") || known.ends_with("LMHeadModel");
    let texts = class.ends_with("ForSequenceClassification");
    let tokens = class.ends_with("ForTokenClassification");
    let answers = class.ends_with("ForQuestionAnswering");
    let bare = class.ends_with("Model") && !class.ends_with("LMHeadModel") && !class.contains("For");
    if !causal || !(texts || tokens || answers || bare) {
        return Some(format!("the class {class} is read as {known}, which the family describes"));
    }
    let width =
        tensors.iter().find(|row| row.role == Role::Embedding && row.shape.len() == 2)?.shape.last().copied()?;
    tensors.retain(|row| row.role != Role::Head);
    if texts || tokens {
        let labels = config.get("id2label").and_then(Json::as_object).map(|labels| labels.len() as u64);
        let labels = labels.or_else(|| config.get("num_labels").and_then(Json::as_u64)).unwrap_or(LABELS);
        // Token classifiers that are older than the common class call it otherwise.
        let common = texts || tensors.iter().any(|row| row.name(0).starts_with("model."));
        let head = if common { "score" } else { "classifier" };
        if labels > 0 {
            tensors.push(Expected::plain(&format!("{head}.weight"), &[labels, width], Role::Head));
        }
        if labels > 0 && tokens {
            tensors.push(Expected::plain(&format!("{head}.bias"), &[labels], Role::Head));
        }
        return Some(format!("the class {class} has a head of {labels} labels in place of the language model's"));
    }
    if answers {
        // Most keep `transformer.` from their first versions where the other classes have `model.`; files of both are read.
        tensors.iter_mut().for_each(|row| row.exchange("model.", "transformer."));
        tensors.push(Expected::plain("qa_outputs.weight", &[2, width], Role::Head));
        tensors.push(Expected::plain("qa_outputs.bias", &[2], Role::Head));
        return Some(format!("the class {class} has a head for where an answer begins and ends"));
    }
    strip_base(tensors);
    Some(format!("the class {class} has no head"))
}

/// A bare model is saved without the name that the class around it has for it, such as `model.`.
fn strip_base(tensors: &mut [Expected]) {
    let Some(first) = tensors.first().map(|row| row.name(0)) else { return };
    let Some((base, _)) = first.split_once('.') else { return };
    let base = format!("{base}.");
    if tensors.iter().all(|row| row.name(0).starts_with(&base)) {
        tensors.iter_mut().for_each(|row| row.exchange(&base, ""));
    }
}
