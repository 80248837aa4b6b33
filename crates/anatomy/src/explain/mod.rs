//! Numbers of a model, explained: what they mean for the context, the cache and the size.

pub mod growth;
pub mod rope;
pub mod sharing;
