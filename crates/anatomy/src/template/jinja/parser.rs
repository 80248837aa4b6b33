//! Tokens to a tree: statements.

use std::sync::Arc;

use super::super::TemplateErrorKind;
use super::ast::{Block, Expr, ExprKind, For, Macro, Statement, StatementKind, Target, Uses};
use super::fault::{Fault, Result};
use super::lexer::{Token, tokens};

/// How deep brackets and blocks may nest in the source.
const MAX_NESTING: u16 = 100;

/// Reads a template.
pub fn parse(source: &str) -> Result<Block> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, nesting: 0, macros: Vec::new() };
    let body = parser.block(&[])?;
    super::check::check(&body)?;
    Ok(body)
}

pub struct Parser {
    tokens: Vec<(u32, Token)>,
    pub at: usize,
    nesting: u16,
    /// What the macros that are being read use.
    pub macros: Vec<Uses>,
}

impl Parser {
    pub fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    pub fn peek_second(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(_, token)| token)
    }

    pub fn spot(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(spot, _)| *spot)
    }

    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        let spot = Some(self.spot());
        Err(Box::new(Fault { kind: TemplateErrorKind::Syntax, message: message.into(), spot }))
    }

    pub fn at_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    pub fn at_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if **found == *name)
    }

    pub fn skip_sign(&mut self, sign: &str) -> bool {
        let found = self.at_sign(sign);
        self.at += usize::from(found);
        found
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let found = self.at_name(name);
        self.at += usize::from(found);
        found
    }

    pub fn expect_sign(&mut self, sign: &str) -> Result<()> {
        if self.skip_sign(sign) {
            return Ok(());
        }
        self.fail(format!("'{sign}' is expected, not '{}'", self.peek().describe()))
    }

    pub fn expect_name(&mut self, name: &str) -> Result<()> {
        if self.skip_name(name) {
            return Ok(());
        }
        self.fail(format!("'{name}' is expected, not '{}'", self.peek().describe()))
    }

    pub fn expect(&mut self, token: &Token) -> Result<()> {
        if self.peek() == token {
            self.at += 1;
            return Ok(());
        }
        self.fail(format!("'{}' is expected, not '{}'", token.describe(), self.peek().describe()))
    }

    pub fn name(&mut self) -> Result<Arc<str>> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.at += 1;
                Ok(name)
            }
            other => self.fail(format!("a name is expected, not '{}'", other.describe())),
        }
    }

    /// Runs a parser one level deeper.
    pub fn nest<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail(format!("the template nests deeper than {MAX_NESTING} levels"));
        }
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// Reads the body of a macro and notes what it uses.
    fn macro_body(&mut self, end: &str) -> Result<(Block, Uses)> {
        self.macros.push(Uses::default());
        let body = self.body(end)?;
        Ok((body, self.macros.pop().unwrap_or_default()))
    }

    /// Statements up to a tag of these names, whose name is the next token then.
    pub fn block(&mut self, ends: &[&str]) -> Result<Block> {
        let mut block = Block::new();
        loop {
            let spot = self.spot();
            match self.next() {
                Token::Text(text) => block.push(Statement { spot, kind: StatementKind::Text(text) }),
                Token::PrintBegin => {
                    let shown = self.tuple(false)?;
                    self.expect(&Token::PrintEnd)?;
                    block.push(Statement { spot, kind: StatementKind::Print(shown) });
                }
                Token::BlockBegin => {
                    if matches!(self.peek(), Token::Name(name) if ends.contains(&&**name)) {
                        return Ok(block);
                    }
                    let kinds = self.nest(|parser| parser.statement(ends))?;
                    block.extend(kinds.into_iter().map(|kind| Statement { spot, kind }));
                    self.expect(&Token::BlockEnd)?;
                }
                _ if ends.is_empty() => return Ok(block),
                _ => {
                    self.at -= 1;
                    return self.fail(format!("the template ends where {{% {} %}} is expected", ends.join(" or ")));
                }
            }
        }
    }

    /// The end of a tag, statements, and the closing tag's name.
    fn body(&mut self, end: &str) -> Result<Block> {
        let body = self.branch(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn branch(&mut self, ends: &[&str]) -> Result<Block> {
        self.skip_sign(":");
        self.expect(&Token::BlockEnd)?;
        self.block(ends)
    }

    fn statement(&mut self, ends: &[&str]) -> Result<Vec<StatementKind>> {
        let tag = self.name()?;
        let kind = match &*tag {
            "for" => self.for_loop()?,
            "if" => self.condition()?,
            "set" => {
                let target = self.target(true)?;
                if self.skip_sign("=") {
                    StatementKind::Set { target, value: self.tuple(false)? }
                } else {
                    let filters = self.filters(false)?;
                    StatementKind::SetBlock { target, filters, body: self.body("endset")? }
                }
            }
            "macro" => {
                let name = self.name()?;
                let parameters = self.parameters()?;
                let (body, uses) = self.macro_body("endmacro")?;
                StatementKind::Macro(Arc::new(Macro { name: Some(name), parameters, body, uses }))
            }
            "call" => {
                let parameters = if self.at_sign("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call.kind, ExprKind::Call(..)) {
                    return self.fail("a call is expected");
                }
                let (body, uses) = self.macro_body("endcall")?;
                StatementKind::Call { call, body: Arc::new(Macro { name: None, parameters, body, uses }) }
            }
            "filter" => {
                let filters = self.filters(true)?;
                StatementKind::Filter { filters, body: self.body("endfilter")? }
            }
            "with" => {
                let mut targets = Vec::new();
                while *self.peek() != Token::BlockEnd {
                    if !targets.is_empty() {
                        self.expect_sign(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_sign("=")?;
                    targets.push((target, self.expression()?));
                }
                StatementKind::With { targets, body: self.body("endwith")? }
            }
            "block" => {
                let name = self.name()?;
                self.skip_name("scoped");
                self.skip_name("required");
                let body = self.body("endblock")?;
                self.skip_name(&name);
                StatementKind::Block { body }
            }
            "generation" => StatementKind::Generation { body: self.body("endgeneration")? },
            "autoescape" => {
                self.expression()?;
                StatementKind::Autoescape { body: self.body("endautoescape")? }
            }
            "print" => {
                let mut shown = Vec::new();
                while *self.peek() != Token::BlockEnd {
                    if !shown.is_empty() {
                        self.expect_sign(",")?;
                    }
                    shown.push(StatementKind::Print(self.expression()?));
                }
                return Ok(shown);
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "include" | "import" | "from" | "extends" => {
                let tag = match &*tag {
                    "include" => "include",
                    "import" => "import",
                    "from" => "from",
                    _ => "extends",
                };
                let name = self.expression()?;
                while !matches!(self.peek(), Token::BlockEnd | Token::End) {
                    self.at += 1;
                }
                StatementKind::Load { tag, name }
            }
            _ => {
                self.at -= 1;
                return match ends {
                    [] => self.fail(format!("there is no tag '{tag}'")),
                    _ => self.fail(format!("tag '{tag}' where '{}' is expected", ends.join("' or '"))),
                };
            }
        };
        Ok(vec![kind])
    }

    fn for_loop(&mut self) -> Result<StatementKind> {
        let target = self.target(false)?;
        self.expect_name("in")?;
        let over = self.tuple_of(|parser| parser.or(), |parser| parser.at_name("recursive"), false)?;
        let test = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        let body = self.branch(&["endfor", "else"])?;
        let otherwise = if self.skip_name("else") {
            self.body("endfor")?
        } else {
            self.at += 1;
            Block::new()
        };
        Ok(StatementKind::For(Box::new(For { target, over, test, recursive, body, otherwise })))
    }

    fn condition(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple_of(|parser| parser.or(), |_| false, false)?;
            branches.push((test, self.branch(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") {
                self.body("endif")?
            } else {
                self.at += 1;
                Block::new()
            };
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    fn parameters(&mut self) -> Result<Vec<(Arc<str>, Option<Expr>)>> {
        self.expect_sign("(")?;
        let mut parameters: Vec<(Arc<str>, Option<Expr>)> = Vec::new();
        while !self.at_sign(")") {
            if !parameters.is_empty() {
                self.expect_sign(",")?;
            }
            let name = self.name()?;
            let default = if self.skip_sign("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.iter().any(|(_, default)| default.is_some()) {
                return self.fail("a parameter without a default follows one with a default");
            }
            parameters.push((name, default));
        }
        self.expect_sign(")")?;
        Ok(parameters)
    }

    /// What is assigned to: names, tuples of names, and (for `set`) attributes of namespaces.
    fn target(&mut self, attributes: bool) -> Result<Target> {
        let mut parts = Vec::new();
        let mut is_tuple = false;
        loop {
            if is_tuple && (self.at_sign(")") || *self.peek() == Token::BlockEnd) {
                break;
            }
            if self.skip_sign("(") {
                parts.push(self.nest(|parser| parser.target(attributes))?);
                self.expect_sign(")")?;
            } else {
                let name = self.name()?;
                if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
                    return self.fail(format!("'{name}' cannot be assigned to"));
                }
                if attributes && self.skip_sign(".") {
                    parts.push(Target::Attribute(name, self.name()?));
                } else {
                    parts.push(Target::Name(name));
                }
            }
            if !self.skip_sign(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                parts.extend(last);
                Ok(Target::Tuple(parts))
            }
        }
    }

    /// An expression, or a tuple without parentheses.
    pub fn tuple(&mut self, explicit: bool) -> Result<Expr> {
        self.tuple_of(Parser::expression, |_| false, explicit)
    }

    fn tuple_of(
        &mut self,
        parse: fn(&mut Self) -> Result<Expr>,
        end: fn(&Self) -> bool,
        explicit: bool,
    ) -> Result<Expr> {
        let spot = self.spot();
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let closed = matches!(self.peek(), Token::PrintEnd | Token::BlockEnd) || self.at_sign(")") || end(self);
            if closed {
                break;
            }
            items.push(parse(self)?);
            if !self.skip_sign(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            None if !explicit => self.fail(format!("an expression is expected, not '{}'", self.peek().describe())),
            last => {
                items.extend(last);
                self.node(spot, ExprKind::Tuple(items))
            }
        }
    }
}
