//! The one Rhai engine of the process: what it may do, and what it may not.
//!
//! It is made empty: no functions, no packages, no modules. What texts can call are the plans that lowering puts into
//! their tree, and `push`.

use std::any::TypeId;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use rhai::{Dynamic, Engine, Expr, OptimizationLevel, ScriptFuncDef};

use crate::expr::interpret::lists::{self, LIST_MAX};
use crate::expr::interpret::nodes;
use crate::expr::interpret::plan::{KEY, PUSH};
use crate::expr::interpret::run;

/// Longest text that a script makes, in bytes.
pub const TEXT_MAX: usize = 1024 * 1024;
/// Calls inside of each other.
pub const CALLS_MAX: usize = 32;
/// Deepest nesting of expressions and blocks.
pub const DEPTH_MAX: usize = 64;
/// The same inside of functions and closures: calls and nesting together must fit a thread's stack.
pub const FUNCTION_DEPTH_MAX: usize = 24;
/// Locals at a time.
pub const VARIABLES_MAX: usize = 256;
/// Functions and closures of one script.
pub const FUNCTIONS_MAX: usize = 100;

/// Words and signs of Rhai's that are no part of the language.
const DISABLED: &[&str] = &[
    "eval",
    "import",
    "export",
    "as",
    "print",
    "debug",
    "Fn",
    "call",
    "curry",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "type_of",
    "this",
    "global",
    "private",
    "try",
    "catch",
    "throw",
    "**",
    "<<",
    ">>",
    "&",
    "^",
    "~",
    "**=",
    "<<=",
    ">>=",
    "&=",
    "|=",
    "^=",
];

/// Stands in the body of every function for its lowered form; a text that spells it is refused by lowering.
const BODY: &str = "__body__";

/// A lowered body, as Rhai carries it.
#[derive(Clone)]
pub(super) struct Body(pub Arc<Expr>);

/// The engine.
pub(super) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(build)
}

fn build() -> Engine {
    let mut engine = Engine::new_raw();
    // Plans need the tree as it was written; folding would also use Rhai's own operators.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_fast_operators(false);
    engine.set_max_expr_depths(DEPTH_MAX, FUNCTION_DEPTH_MAX);
    engine.set_max_call_levels(CALLS_MAX);
    engine.set_max_operations(0); // counted by `run::progress`, which knows the budget of the run
    engine.set_max_modules(0);
    engine.set_max_functions(FUNCTIONS_MAX);
    engine.set_max_variables(VARIABLES_MAX);
    engine.set_max_string_size(TEXT_MAX);
    engine.set_max_array_size(LIST_MAX);
    engine.set_max_map_size(LIST_MAX);
    for symbol in DISABLED {
        engine.disable_symbol(*symbol);
    }
    engine.on_progress(run::progress);
    // A key that no text can spell, so there is nothing that could refuse it.
    let registered = engine.register_custom_syntax_handler(KEY, false, nodes::evaluate).is_ok();
    let registered = registered && engine.register_custom_syntax_handler(BODY, false, nodes::body).is_ok();
    debug_assert!(registered, "plans have their handler");
    engine.register_raw_fn(PUSH, [TypeId::of::<rhai::Array>(), TypeId::of::<Dynamic>()], |context, arguments| {
        lists::push(context, arguments)
    });
    engine.register_iterator::<rhai::Array>();
    engine.register_iterator::<std::ops::Range<i64>>();
    engine.register_iterator::<std::ops::RangeInclusive<i64>>();
    // Interning keeps texts of one request for the next one.
    engine.set_max_strings_interned(0);
    engine
}

thread_local! {
    /// The body that the parser below is to put into the function at hand.
    static PENDING: RefCell<Option<Body>> = const { RefCell::new(None) };
}

/// A function with this body. Rhai lets nobody change the body of a function; so one is parsed whose only operation
/// carries the lowered one.
pub(super) fn body_of(body: Expr) -> Option<ScriptFuncDef> {
    static WORKSHOP: OnceLock<Engine> = OnceLock::new();
    let workshop = WORKSHOP.get_or_init(|| {
        let mut engine = Engine::new_raw();
        engine.set_optimization_level(OptimizationLevel::None);
        engine.register_custom_syntax_with_state_raw(
            BODY,
            |_, _, state| {
                if let Some(body) = PENDING.take() {
                    *state = Dynamic::from(body);
                }
                Ok(None)
            },
            false,
            |_, _, _| Ok(Dynamic::UNIT),
        );
        engine
    });
    PENDING.set(Some(Body(Arc::new(body))));
    let parsed = workshop.compile(format!("fn f() {{ {BODY} }}"));
    let function = parsed.ok().and_then(|ast| {
        let lib = ast.shared_lib().clone();
        lib.iter_script_fn_info().next().map(|(_, _, _, _, function)| (**function).clone())
    });
    debug_assert!(function.is_some(), "the workshop's text parses");
    function
}
