//! stub
use super::{Estimate, Request, Subject};
use crate::error::Result;
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    super::formula::estimate(subject, request)
}
