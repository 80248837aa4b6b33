//! Expressions, with the precedence that Jinja has.

use std::sync::Arc;

use super::ast::{Arguments, Comparison, Expr, ExprKind, FilterCall, Operator};
use super::fault::{MAX_DEPTH, Result};
use super::lexer::Token;
use super::parser::Parser;
use super::value::Value;

impl Parser {
    /// A node of the tree, unless that grows too deep.
    pub fn node(&self, spot: u32, kind: ExprKind) -> Result<Expr> {
        let mut expr = Expr { spot, depth: 0, kind };
        expr.depth = 1 + expr.children().iter().map(|child| child.depth).max().unwrap_or(0);
        if expr.depth > MAX_DEPTH {
            return self.fail(format!("an expression of more than {MAX_DEPTH} steps in a row"));
        }
        Ok(expr)
    }

    pub fn expression(&mut self) -> Result<Expr> {
        self.nest(|parser| {
            let mut expr = parser.or()?;
            let spot = parser.spot();
            while parser.skip_name("if") {
                let test = Box::new(parser.or()?);
                let otherwise = if parser.skip_name("else") { Some(Box::new(parser.expression()?)) } else { None };
                expr = parser.node(spot, ExprKind::Condition { test, then: Box::new(expr), otherwise })?;
            }
            Ok(expr)
        })
    }

    pub fn or(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let mut left = self.and()?;
        while self.skip_name("or") {
            let right = self.and()?;
            left = self.node(spot, ExprKind::Or(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let mut left = self.not()?;
        while self.skip_name("and") {
            let right = self.not()?;
            left = self.node(spot, ExprKind::And(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let spot = self.spot();
        if self.skip_name("not") {
            let of = self.nest(Parser::not)?;
            return self.node(spot, ExprKind::Not(Box::new(of)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                Token::Sign("==") => Comparison::Equal,
                Token::Sign("!=") => Comparison::NotEqual,
                Token::Sign("<") => Comparison::Less,
                Token::Sign("<=") => Comparison::LessEqual,
                Token::Sign(">") => Comparison::Greater,
                Token::Sign(">=") => Comparison::GreaterEqual,
                Token::Name(name) if &**name == "in" => Comparison::In,
                Token::Name(name) if &**name == "not" && *self.peek_second() == Token::Name("in".into()) => {
                    self.at += 1;
                    Comparison::NotIn
                }
                _ => break,
            };
            self.at += 1;
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.node(spot, ExprKind::Compare(Box::new(first), rest))
    }

    fn sum(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let mut left = self.concat()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("+") => Operator::Add,
                Token::Sign("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.concat()?;
            left = self.node(spot, ExprKind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn concat(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let first = self.product()?;
        if !self.at_sign("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_sign("~") {
            parts.push(self.product()?);
        }
        self.node(spot, ExprKind::Concat(parts))
    }

    fn product(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let mut left = self.power()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("*") => Operator::Multiply,
                Token::Sign("/") => Operator::Divide,
                Token::Sign("//") => Operator::FloorDivide,
                Token::Sign("%") => Operator::Modulo,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.power()?;
            left = self.node(spot, ExprKind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn power(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let mut left = self.unary(true)?;
        while self.skip_sign("**") {
            let right = self.unary(true)?;
            left = self.node(spot, ExprKind::Binary(Operator::Power, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    /// A sign before a value binds tighter than the filters after it, but looser than the value's own attributes and
    /// calls.
    fn unary(&mut self, with_filter: bool) -> Result<Expr> {
        let spot = self.spot();
        let mut expr = if self.skip_sign("-") {
            let of = self.nest(|parser| parser.unary(false))?;
            self.node(spot, ExprKind::Negative(Box::new(of)))?
        } else if self.skip_sign("+") {
            let of = self.nest(|parser| parser.unary(false))?;
            self.node(spot, ExprKind::Positive(Box::new(of)))?
        } else {
            self.primary()?
        };
        expr = self.postfix(expr)?;
        if with_filter { self.filtered(expr) } else { Ok(expr) }
    }

    fn primary(&mut self) -> Result<Expr> {
        let spot = self.spot();
        let constant = match self.peek().clone() {
            Token::Name(name) => {
                self.at += 1;
                match &*name {
                    "true" | "True" => Value::Bool(true),
                    "false" | "False" => Value::Bool(false),
                    "none" | "None" => Value::None,
                    _ => {
                        for uses in &mut self.macros {
                            match &*name {
                                "caller" => uses.caller = true,
                                "varargs" => uses.varargs = true,
                                "kwargs" => uses.kwargs = true,
                                _ => {}
                            }
                        }
                        return self.node(spot, ExprKind::Name(name));
                    }
                }
            }
            Token::Str(first) => {
                self.at += 1;
                let mut text = first;
                if matches!(self.peek(), Token::Str(_)) {
                    let mut joined = text.to_string();
                    while let Token::Str(more) = self.peek().clone() {
                        joined.push_str(&more);
                        self.at += 1;
                    }
                    text = joined.into();
                }
                Value::Str(text)
            }
            Token::Int(number) => {
                self.at += 1;
                Value::Int(number)
            }
            Token::Float(number) => {
                self.at += 1;
                Value::Float(number)
            }
            Token::Sign("(") => {
                self.at += 1;
                let inside = self.tuple(true)?;
                self.expect_sign(")")?;
                return Ok(inside);
            }
            Token::Sign("[") => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.at_sign("]") {
                    if !items.is_empty() {
                        self.expect_sign(",")?;
                        if self.at_sign("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                self.expect_sign("]")?;
                return self.node(spot, ExprKind::List(items));
            }
            Token::Sign("{") => {
                self.at += 1;
                let mut pairs = Vec::new();
                while !self.at_sign("}") {
                    if !pairs.is_empty() {
                        self.expect_sign(",")?;
                        if self.at_sign("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect_sign(":")?;
                    pairs.push((key, self.expression()?));
                }
                self.expect_sign("}")?;
                return self.node(spot, ExprKind::Dict(pairs));
            }
            other => return self.fail(format!("unexpected '{}'", other.describe())),
        };
        self.node(spot, ExprKind::Const(constant))
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            let spot = self.spot();
            if self.skip_sign(".") {
                expr = match self.next() {
                    Token::Name(name) => self.node(spot, ExprKind::Attribute(Box::new(expr), name))?,
                    Token::Int(number) => {
                        let index = self.node(spot, ExprKind::Const(Value::Int(number)))?;
                        self.node(spot, ExprKind::Item(Box::new(expr), Box::new(index)))?
                    }
                    other => return self.fail(format!("a name or number is expected, not '{}'", other.describe())),
                };
            } else if self.skip_sign("[") {
                expr = self.subscript(expr, spot)?;
            } else if self.at_sign("(") {
                let arguments = self.arguments()?;
                expr = self.node(spot, ExprKind::Call(Box::new(expr), arguments))?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn subscript(&mut self, of: Expr, spot: u32) -> Result<Expr> {
        if self.at_sign(",") || self.at_sign("]") {
            return self.fail("a subscript is expected");
        }
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut colons = 0;
        for (index, part) in parts.iter_mut().enumerate() {
            if !self.at_sign(":") && !self.at_sign("]") {
                *part = Some(Box::new(self.expression()?));
            }
            if index < 2 && self.skip_sign(":") {
                colons += 1;
            } else {
                break;
            }
        }
        if colons > 0 {
            self.expect_sign("]")?;
            return self.node(spot, ExprKind::Slice(Box::new(of), parts));
        }
        let [first, ..] = parts;
        let Some(mut index) = first else { return self.fail("a subscript is expected") };
        if self.at_sign(",") {
            let mut items = vec![*index];
            while self.skip_sign(",") {
                items.push(self.expression()?);
            }
            index = Box::new(self.node(spot, ExprKind::Tuple(items))?);
        }
        self.expect_sign("]")?;
        self.node(spot, ExprKind::Item(Box::new(of), index))
    }

    fn filtered(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            let spot = self.spot();
            if self.skip_sign("|") {
                let call = self.filter_call()?;
                expr = self.node(spot, ExprKind::Filter(Box::new(expr), call))?;
            } else if self.skip_name("is") {
                let negated = self.skip_name("not");
                let call = self.test_call()?;
                expr = self.node(spot, ExprKind::Test(Box::new(expr), call))?;
                if negated {
                    expr = self.node(spot, ExprKind::Not(Box::new(expr)))?;
                }
            } else if self.at_sign("(") {
                let arguments = self.arguments()?;
                expr = self.node(spot, ExprKind::Call(Box::new(expr), arguments))?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// Filters in a row; `inline` if the first stands without a bar.
    pub fn filters(&mut self, inline: bool) -> Result<Vec<FilterCall>> {
        let mut filters = Vec::new();
        if inline {
            filters.push(self.filter_call()?);
        }
        while self.skip_sign("|") {
            filters.push(self.filter_call()?);
        }
        Ok(filters)
    }

    fn dotted_name(&mut self) -> Result<Arc<str>> {
        let mut name = self.name()?;
        while self.skip_sign(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    fn filter_call(&mut self) -> Result<FilterCall> {
        let spot = self.spot();
        let name = self.dotted_name()?;
        let arguments = if self.at_sign("(") { self.arguments()? } else { Arguments::default() };
        Ok(FilterCall { spot, name, arguments })
    }

    /// A test's name and arguments; one argument may stand without parentheses.
    fn test_call(&mut self) -> Result<FilterCall> {
        let spot = self.spot();
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        if self.at_sign("(") {
            arguments = self.arguments()?;
        } else {
            let argument = match self.peek() {
                Token::Name(name) if &**name == "is" => return self.fail("two tests in a row"),
                Token::Name(name) => !matches!(&**name, "else" | "or" | "and"),
                Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Sign("[" | "{") => true,
                _ => false,
            };
            if argument {
                let primary = self.nest(Parser::primary)?;
                arguments.positional.push(self.postfix(primary)?);
            }
        }
        Ok(FilterCall { spot, name, arguments })
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect_sign("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.at_sign(")") {
            if !first {
                self.expect_sign(",")?;
                if self.at_sign(")") {
                    break;
                }
            }
            first = false;
            let after_rest = arguments.rest.is_some() || arguments.keyword_rest.is_some();
            if self.skip_sign("*") {
                if after_rest {
                    return self.fail("two lists of further arguments");
                }
                arguments.rest = Some(Box::new(self.expression()?));
            } else if self.skip_sign("**") {
                if arguments.keyword_rest.is_some() {
                    return self.fail("two maps of further arguments");
                }
                arguments.keyword_rest = Some(Box::new(self.expression()?));
            } else if let (Token::Name(name), Token::Sign("=")) = (self.peek().clone(), self.peek_second()) {
                if arguments.keyword_rest.is_some() {
                    return self.fail("a named argument after '**'");
                }
                self.at += 2;
                arguments.keywords.push((name, self.expression()?));
            } else {
                if after_rest || !arguments.keywords.is_empty() {
                    return self.fail("an argument without a name after named ones");
                }
                arguments.positional.push(self.expression()?);
            }
        }
        self.expect_sign(")")?;
        Ok(arguments)
    }
}
