//! What Jinja refuses when it compiles: filters and tests that do not exist, `break` outside of a loop.

use super::super::TemplateErrorKind;
use super::ast::{Block, Expr, ExprKind, FilterCall, StatementKind};
use super::fault::{Fault, Result};
use super::{filters, tests};

/// Refuses what could never be rendered.
pub fn check(block: &Block) -> Result<()> {
    blocks(block, Place { soft: false, in_loop: false })
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place {
    /// Under a condition a missing filter only counts when it is reached.
    soft: bool,
    in_loop: bool,
}

fn blocks(block: &Block, place: Place) -> Result<()> {
    for statement in block {
        let inner = match &statement.kind {
            StatementKind::If { .. } => Place { soft: true, ..place },
            StatementKind::For(_) => Place { soft: false, in_loop: true },
            StatementKind::Block { .. } => Place { soft: false, in_loop: false },
            StatementKind::Macro(_) | StatementKind::Call { .. } | StatementKind::Generation { .. } => {
                Place { soft: false, in_loop: false }
            }
            StatementKind::Break | StatementKind::Continue if !place.in_loop => {
                let message = "break or continue outside of a loop".to_string();
                return Err(Box::new(Fault { kind: TemplateErrorKind::Syntax, message, spot: Some(statement.spot) }));
            }
            StatementKind::SetBlock { filters, .. } | StatementKind::Filter { filters, .. } => {
                for call in filters {
                    known(call, "filter", filters::exists(&call.name), place)?;
                }
                Place { soft: false, ..place }
            }
            _ => Place { soft: false, ..place },
        };
        let own = Place { soft: place.soft || matches!(statement.kind, StatementKind::If { .. }), ..place };
        for expr in statement.expressions() {
            expression(expr, own)?;
        }
        if let StatementKind::For(each) = &statement.kind {
            blocks(&each.body, inner)?;
            blocks(&each.otherwise, Place { in_loop: place.in_loop, ..inner })?;
        } else {
            for block in statement.blocks() {
                blocks(block, inner)?;
            }
        }
    }
    Ok(())
}

fn expression(expr: &Expr, place: Place) -> Result<()> {
    let place = Place { soft: place.soft || matches!(expr.kind, ExprKind::Condition { .. }), ..place };
    match &expr.kind {
        ExprKind::Filter(_, call) => known(call, "filter", filters::exists(&call.name), place)?,
        ExprKind::Test(_, call) => known(call, "test", tests::exists(&call.name), place)?,
        _ => {}
    }
    expr.children().into_iter().try_for_each(|child| expression(child, place))
}

fn known(call: &FilterCall, what: &str, exists: bool, place: Place) -> Result<()> {
    if exists || place.soft {
        return Ok(());
    }
    let message = format!("there is no {what} named '{}'", call.name);
    Err(Box::new(Fault { kind: TemplateErrorKind::Syntax, message, spot: Some(call.spot) }))
}
