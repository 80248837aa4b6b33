//! A template as a tree.

use std::sync::Arc;

use super::value::Value;

#[derive(Debug)]
pub struct Statement {
    pub spot: u32,
    pub kind: StatementKind,
}

pub type Block = Vec<Statement>;

#[derive(Debug)]
pub enum StatementKind {
    Text(Arc<str>),
    Print(Expr),
    For(Box<For>),
    If {
        branches: Vec<(Expr, Block)>,
        otherwise: Block,
    },
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<FilterCall>,
        body: Block,
    },
    Macro(Arc<Macro>),
    Call {
        call: Expr,
        body: Arc<Macro>,
    },
    Filter {
        filters: Vec<FilterCall>,
        body: Block,
    },
    With {
        targets: Vec<(Target, Expr)>,
        body: Block,
    },
    /// A named block; without inheritance it only shows its body.
    Block {
        body: Block,
    },
    Generation {
        body: Block,
    },
    Break,
    Continue,
    /// `include`, `import`, `from`, `extends`: a chat template has nowhere to load from.
    Load {
        tag: &'static str,
        name: Expr,
    },
    Autoescape {
        body: Block,
    },
}

#[derive(Debug)]
pub struct For {
    pub target: Target,
    pub over: Expr,
    pub test: Option<Expr>,
    pub recursive: bool,
    pub body: Block,
    pub otherwise: Block,
}

#[derive(Debug)]
pub enum Target {
    Name(Arc<str>),
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub struct Macro {
    pub name: Option<Arc<str>>,
    pub parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub body: Block,
    /// Which of the special names its body uses: only then it takes what they stand for.
    pub uses: Uses,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Uses {
    pub caller: bool,
    pub varargs: bool,
    pub kwargs: bool,
}

#[derive(Debug)]
pub struct FilterCall {
    pub spot: u32,
    pub name: Arc<str>,
    pub arguments: Arguments,
}

#[derive(Debug)]
pub struct Expr {
    pub spot: u32,
    /// How deep the tree below is; bounded, so that walking it needs a bounded stack.
    pub depth: u16,
    pub kind: ExprKind,
}

#[derive(Debug)]
pub enum ExprKind {
    Const(Value),
    Name(Arc<str>),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Condition { test: Box<Expr>, then: Box<Expr>, otherwise: Option<Box<Expr>> },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    Filter(Box<Expr>, FilterCall),
    Test(Box<Expr>, FilterCall),
}

#[derive(Debug, Default)]
pub struct Arguments {
    pub positional: Vec<Expr>,
    pub keywords: Vec<(Arc<str>, Expr)>,
    /// `*list`
    pub rest: Option<Box<Expr>>,
    /// `**dict`
    pub keyword_rest: Option<Box<Expr>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

impl Comparison {
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
            Comparison::In => "in",
            Comparison::NotIn => "not in",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

impl Operator {
    pub fn sign(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
            Operator::Modulo => "%",
            Operator::Power => "** or pow()",
        }
    }
}

impl Arguments {
    /// Every expression in them.
    pub fn each(&self) -> impl Iterator<Item = &Expr> {
        let keywords = self.keywords.iter().map(|(_, value)| value);
        self.positional.iter().chain(keywords).chain(self.rest.as_deref()).chain(self.keyword_rest.as_deref())
    }
}

impl Expr {
    /// The expressions directly below.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Const(_) | ExprKind::Name(_) => Vec::new(),
            ExprKind::Tuple(items) | ExprKind::List(items) | ExprKind::Concat(items) => items.iter().collect(),
            ExprKind::Dict(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
            ExprKind::Condition { test, then, otherwise } => {
                [&**test, then].into_iter().chain(otherwise.as_deref()).collect()
            }
            ExprKind::And(a, b) | ExprKind::Or(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Item(a, b) => {
                vec![a, b]
            }
            ExprKind::Not(a) | ExprKind::Negative(a) | ExprKind::Positive(a) | ExprKind::Attribute(a, _) => vec![a],
            ExprKind::Compare(first, rest) => std::iter::once(&**first).chain(rest.iter().map(|(_, e)| e)).collect(),
            ExprKind::Slice(of, parts) => std::iter::once(&**of).chain(parts.iter().flatten().map(|e| &**e)).collect(),
            ExprKind::Call(of, arguments) => std::iter::once(&**of).chain(arguments.each()).collect(),
            ExprKind::Filter(of, call) | ExprKind::Test(of, call) => {
                std::iter::once(&**of).chain(call.arguments.each()).collect()
            }
        }
    }
}

impl Statement {
    /// The expressions directly in this statement, without those of the blocks in it.
    pub fn expressions(&self) -> Vec<&Expr> {
        fn of(filters: &[FilterCall]) -> impl Iterator<Item = &Expr> {
            filters.iter().flat_map(|call| call.arguments.each())
        }
        match &self.kind {
            StatementKind::Print(e) | StatementKind::Set { value: e, .. } | StatementKind::Load { name: e, .. } => {
                vec![e]
            }
            StatementKind::For(each) => std::iter::once(&each.over).chain(&each.test).collect(),
            StatementKind::If { branches, .. } => branches.iter().map(|(test, _)| test).collect(),
            StatementKind::SetBlock { filters, .. } | StatementKind::Filter { filters, .. } => of(filters).collect(),
            StatementKind::Macro(of) => of.parameters.iter().filter_map(|(_, default)| default.as_ref()).collect(),
            StatementKind::Call { call, body } => {
                std::iter::once(call).chain(body.parameters.iter().filter_map(|(_, d)| d.as_ref())).collect()
            }
            StatementKind::With { targets, .. } => targets.iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    /// The blocks directly in this statement.
    pub fn blocks(&self) -> Vec<&Block> {
        match &self.kind {
            StatementKind::For(each) => vec![&each.body, &each.otherwise],
            StatementKind::If { branches, otherwise } => {
                branches.iter().map(|(_, body)| body).chain([otherwise]).collect()
            }
            StatementKind::SetBlock { body, .. }
            | StatementKind::Filter { body, .. }
            | StatementKind::With { body, .. }
            | StatementKind::Block { body }
            | StatementKind::Autoescape { body }
            | StatementKind::Generation { body } => vec![body],
            StatementKind::Macro(of) | StatementKind::Call { body: of, .. } => vec![&of.body],
            _ => Vec::new(),
        }
    }
}
