//! What every report starts from: each tensor of a model with its part in it and the numbers that it
//! stands for.

use crate::model::Model;
use crate::names::{self, Part, Role};
use crate::packing::{self, Logical};
use crate::tensor::Tensor;

/// One tensor, understood.
#[derive(Debug)]
pub struct Row<'m> {
    /// The tensor as its file lists it.
    pub tensor: &'m Tensor,
    /// Index of its file in the model.
    pub file: usize,
    /// What its name says.
    pub part: Part,
    /// Which numbers it stands for.
    pub logical: Logical,
}

impl Row<'_> {
    /// Shape of the numbers that it stands for.
    pub fn logical_shape(&self) -> &[u64] {
        self.logical.shape.as_deref().unwrap_or(&self.tensor.shape)
    }
}

/// A model's tensors, understood, in the order of their files.
#[derive(Debug)]
pub struct Analysis<'m> {
    /// The model.
    pub model: &'m Model,
    /// Its tensors.
    pub rows: Vec<Row<'m>>,
}

impl<'m> Analysis<'m> {
    /// Reads every tensor's name and counts what it stands for.
    pub fn new(model: &'m Model) -> Self {
        let (files, tensors): (Vec<usize>, Vec<&Tensor>) = model.tensors().unzip();
        let logical = packing::logical(&tensors, model.config.as_ref());
        let mut grammar = names::Grammar::new();
        let rows = files.into_iter().zip(tensors).zip(logical).map(|((file, tensor), logical)| Row {
            tensor,
            file,
            part: grammar.parse(&tensor.name),
            logical,
        });
        Analysis { model, rows: rows.collect() }
    }

    /// Learned numbers in all.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|row| row.logical.parameters).fold(0, u64::saturating_add)
    }

    /// Learned numbers of a role.
    pub fn of_role(&self, role: Role) -> u64 {
        let of_role = self.rows.iter().filter(|row| row.part.role == role);
        of_role.map(|row| row.logical.parameters).fold(0, u64::saturating_add)
    }
}
