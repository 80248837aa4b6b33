//! `anatomy tensors`: every tensor of a model.

use std::process::ExitCode;

use anatomy::Severity;
use anatomy::analysis::Analysis;
use anatomy::names::Role;
use anatomy::report::units::count;
use anatomy::report::{Order, Selection, Tensors};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use globset::{GlobBuilder, GlobMatcher};

use crate::model::ModelArg;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mGlobs:\x1b[0m * matches any run of characters, dots included; ? one character; [0-9] one of a range; {a,b} \
either. Upper and lower case differ. The whole name must match: write *norm* for a part of it.

\x1b[1mExamples:\x1b[0m
  anatomy tensors model.gguf --tree               repeated layers in one line
  anatomy tensors model.gguf --sort size          the largest first
  anatomy tensors DIR --layer 0 --role attention  one block of one layer
  anatomy tensors DIR --filter '*.{q,k,v}_proj.weight'
  anatomy tensors model.gguf --csv > tensors.csv  offsets are absolute
  anatomy tensors DIR --json | jq '.tensors[] | select(.dtype == \"F32\")'

\x1b[1mExit status:\x1b[0m
  0  done, also where no tensor matches
  2  not found, unreadable, or malformed beyond reading";

/// Every tensor: name, dtype, shape, bytes, place, role
///
/// Shapes are row-major, outermost first ([out, in] for a linear weight), so that a tensor reads the
/// same in every format. A packed tensor is shown with the shape that it stands for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Only tensors whose whole name matches
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    filter: Option<GlobMatcher>,
    /// Only tensors of this role
    #[arg(long, value_name = "ROLE", value_parser = roles())]
    role: Option<Role>,
    /// Only tensors of this layer, counted from 0
    #[arg(long, value_name = "N", value_parser = layer)]
    layer: Option<u32>,
    /// Order of the rows
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    sort: Sort,
    /// Fold repeated layers and experts into one line each
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    tree: bool,
    /// Write comma-separated values with a header line
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Keys of the order, as they are typed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Sort {
    /// By name, numbers in it as numbers.
    Name,
    /// Largest first.
    Size,
    /// Most parameters first.
    Parameters,
    /// By element type.
    Dtype,
    /// As the files have them.
    #[default]
    File,
}

impl From<Sort> for Order {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Name => Order::Name,
            Sort::Size => Order::Size,
            Sort::Parameters => Order::Parameters,
            Sort::Dtype => Order::Dtype,
            Sort::File => Order::File,
        }
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    // A backslash escapes on every system: tensor names are no paths.
    let mut glob = GlobBuilder::new(pattern);
    let glob = glob.literal_separator(false).backslash_escape(true).empty_alternates(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

fn layer(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "a layer is a whole number, such as 0 or 17")
}

fn roles() -> impl TypedValueParser<Value = Role> {
    let named = |name: String| Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or("no such role");
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(named)
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let model = args.model.open()?;
    let analysis = Analysis::new(&model);
    let mut wanted = Selection { role: args.role, layer: args.layer, ..Selection::default() };
    if let Some(glob) = &args.filter {
        wanted.name = Some(Box::new(|name| glob.is_match(name)));
    }
    let report = Tensors::new(&analysis, &wanted, args.sort.into());
    match () {
        () if output.json => output.document(&report)?,
        () if args.csv => output.plain(&report.csv())?,
        () if args.tree => output.text(&report.tree(output.width()))?,
        () => output.text(&report.text(output.width()))?,
    }
    if report.tensors.is_empty() && !analysis.rows.is_empty() {
        output.note(&format!("none of {} matches", count(analysis.rows.len() as u64, "tensor", "tensors")));
    }
    // A list of tensors does not show what is wrong with the model, so at least say that something is.
    let errors = model.all_findings().iter().filter(|finding| finding.severity() == Severity::Error).count();
    if errors > 0 {
        let errors = count(errors as u64, "error", "errors");
        output.note(&format!("the model has {errors}; `anatomy inspect` shows them"));
    }
    Ok(ExitCode::SUCCESS)
}
