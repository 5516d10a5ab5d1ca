//! One query with what its nodes become: the type, how many, and the default.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::compile::Compile;
use crate::compile::content::JsonTemplate;
use crate::compile::text::Sink;
use crate::engine::exchange::Exchange;
use crate::engine::value::{Element, Facts, Origin, Type, Value};
use crate::expr::fault_by;
use crate::fault::Fault;
use crate::json_path::Query;
use crate::source::{Literal, Node};

/// Floats up to this are whole numbers without loss (2^53).
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What a value has to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum TypeWord {
    /// Anything but `null`.
    #[default]
    Json,
    String,
    /// A whole number.
    Int,
    /// Any number.
    Float,
    Bool,
    /// All that is selected; where the path names one place, the array that stands there.
    List,
}

/// What happens where a path selects several values.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Many {
    /// The first is taken.
    #[default]
    First,
    /// All are, as a list.
    All,
    /// It is a fault.
    Refuse,
}

pub(super) struct Wanted {
    pub query: Query,
    ty: TypeWord,
    many: Many,
    default: Option<Default>,
}

enum Default {
    Known(Value),
    Made(JsonTemplate),
}

impl Wanted {
    pub(super) fn compile(
        path: &Literal,
        (ty, many): (TypeWord, Many),
        default: Option<&Node>,
        cx: &mut Compile<'_>,
    ) -> Option<Wanted> {
        let query = query(path, cx);
        let default = match default {
            Some(node) => Some((node, cx.json(node, Sink::Inside)?)),
            None => None,
        };
        let mut wanted = Wanted { query: query?, ty, many, default: None };
        wanted.default = match default {
            None => None,
            Some((node, JsonTemplate::Fixed(json))) => match wanted.given(&json) {
                Some(value) => Some(Default::Known(value)),
                None => {
                    let message = format!("this default is not {}", wanted.words());
                    let help = "write a default of the type that `type` names; `null` is no value";
                    return cx.refuse("policy.wrong_type", node.span(), message, help);
                }
            },
            Some((_, template)) => Some(Default::Made(template)),
        };
        Some(wanted)
    }

    fn words(&self) -> &'static str {
        match (self.ty, self.many) {
            (TypeWord::List, _) | (_, Many::All) => "a list of what is wanted",
            (TypeWord::Json, _) => "a value",
            (TypeWord::String, _) => "a string",
            (TypeWord::Int, _) => "a whole number",
            (TypeWord::Float, _) => "a number",
            (TypeWord::Bool, _) => "true or false",
        }
    }

    /// What is known of its value, taken from a document of which `document` is known.
    pub(super) fn facts(&self, document: Facts) -> Facts {
        let ty = match (self.ty, self.many) {
            (TypeWord::String, Many::All) => Type::List(Element::Text),
            (TypeWord::Json, Many::All) | (TypeWord::List, _) => Type::List(Element::Json),
            (_, Many::All) => Type::List(Element::Any),
            (TypeWord::Json, _) => Type::Json,
            (TypeWord::String, _) => Type::Text,
            (TypeWord::Int, _) => Type::Int,
            (TypeWord::Float, _) => Type::Float,
            (TypeWord::Bool, _) => Type::Bool,
        };
        let facts = Facts { ty, absent: false, ..document };
        match &self.default {
            Some(Default::Made(template)) => template.mixed_into(facts),
            _ => facts,
        }
    }

    /// The value of what was selected; `None` where there is none, or only `null`.
    pub(super) fn taken(&self, nodes: &[&Json], origin: Origin) -> Result<Option<Value>, Box<Fault>> {
        if self.many == Many::Refuse && nodes.len() > 1 {
            let detail = format!("{} values are selected, one is wanted", nodes.len());
            return Err(fault_by(origin, "evaluate_json_path.many", detail));
        }
        let wrong = || fault_by(origin, "evaluate_json_path.type", format!("what is selected is not {}", self.words()));
        let first = nodes.first().filter(|node| !node.is_null());
        let value = match (self.ty, self.many) {
            (TypeWord::List, _) if self.query.is_singular() => match first {
                None => return Ok(None),
                Some(node) => node.is_array().then(|| Value::from_json((*node).clone())),
            },
            (TypeWord::List, _) | (_, Many::All) if nodes.is_empty() => return Ok(None),
            (TypeWord::List, _) | (TypeWord::Json, Many::All) => Some(list(nodes)),
            (ty, Many::All) => {
                let values: Option<Vec<Value>> = nodes.iter().map(|node| scalar(ty, node)).collect();
                values.map(|values| Value::List(values.into()))
            }
            (ty, _) => match first {
                None => return Ok(None),
                Some(node) => scalar(ty, node),
            },
        };
        value.map(Some).ok_or_else(wrong)
    }

    /// The default, where there is one.
    pub(super) fn default(&self, x: &Exchange) -> Result<Option<Value>, Box<Fault>> {
        match &self.default {
            None => Ok(None),
            Some(Default::Known(value)) => Ok(Some(value.clone())),
            Some(Default::Made(template)) => {
                let origin = template.mixed_into(Facts::policy(Type::Any)).origin;
                let detail = format!("the default is not {}", self.words());
                let value = self.given(&template.build(x)?);
                value.map(Some).ok_or_else(|| fault_by(origin, "evaluate_json_path.type", detail))
            }
        }
    }

    /// A default as a value, where it has the right type.
    fn given(&self, json: &Json) -> Option<Value> {
        match (self.ty, self.many) {
            (TypeWord::List, _) | (TypeWord::Json, Many::All) => {
                json.is_array().then(|| Value::from_json(json.clone()))
            }
            (ty, Many::All) => {
                let values: Option<Vec<Value>> = json.as_array()?.iter().map(|item| scalar(ty, item)).collect();
                values.map(|values| Value::List(values.into()))
            }
            (ty, _) => scalar(ty, json),
        }
    }
}

fn query(path: &Literal, cx: &mut Compile<'_>) -> Option<Query> {
    let text = cx.literal(path)?;
    let query = match Query::parse(&text) {
        Ok(query) => query,
        Err(why) => {
            let message = format!("this is no JSONPath query (RFC 9535): {why}");
            let help = "write `$.order.id`, `$['order']['id']` or `$.lines[*].sku`";
            return cx.refuse("policy.bad_json_path", path.span(), message, help);
        }
    };
    if !query.is_bounded() {
        let message = "a pattern of `match` or `search` would come out of the document";
        let help = "write the pattern in quotes, as the second argument";
        return cx.refuse("policy.bad_json_path", path.span(), message, help);
    }
    Some(query)
}

/// Values as a list that keeps them as they are.
pub(super) fn list(nodes: &[&Json]) -> Value {
    Value::from_json(Json::Array(nodes.iter().map(|node| (*node).clone()).collect()))
}

fn scalar(ty: TypeWord, json: &Json) -> Option<Value> {
    match ty {
        TypeWord::Json => (!json.is_null()).then(|| Value::from_json(json.clone())),
        TypeWord::String => json.as_str().map(Value::text),
        TypeWord::Int => whole(json).map(Value::Int),
        TypeWord::Float => json.as_f64().map(Value::Float),
        TypeWord::Bool => json.as_bool().map(Value::Bool),
        TypeWord::List => json.is_array().then(|| Value::from_json(json.clone())),
    }
}

/// A whole number, also where it is written as `1.0` or `1e2`.
fn whole(json: &Json) -> Option<i64> {
    let exact = |float: &f64| float.fract() == 0.0 && float.abs() <= WHOLE_MAX;
    // Within 2^53 the cast loses nothing.
    json.as_i64().or_else(|| json.as_f64().filter(exact).map(|float| float as i64))
}
