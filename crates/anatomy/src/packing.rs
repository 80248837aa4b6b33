//! stub
use crate::tensor::Tensor;
/// logical
#[derive(Debug, Clone, Default)]
pub struct Logical {
    /// shape
    pub shape: Option<Vec<u64>>,
    /// n
    pub parameters: u64,
    /// side
    pub side: bool,
}
/// stub
pub fn logical(tensors: &[&Tensor], _config: Option<&serde_json::Value>) -> Vec<Logical> {
    tensors.iter().map(|t| Logical { shape: None, parameters: t.elements(), side: false }).collect()
}
