//! `/api/trace` and `/api/trace/failed`: live requests as JSON lines for as long as the client reads, and the
//! last ones that failed.
//!
//! Marked values are hashed before a line gets here. A client that stops reading loses lines and holds up nobody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::json;

use super::{Answer, api, text};
use crate::compile::filter::filter;
use crate::compile::text::Test;
use crate::engine::message::pairs;
use crate::engine::program::Condition;
use crate::engine::watch::{WATCHERS_MAX, Watchers, Watching};

/// The body of an answer.
pub(super) enum Page {
    Whole(Full<Bytes>),
    Lines(Watching),
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Page::Whole(body) => Pin::new(body).poll_frame(cx),
            Page::Lines(watching) => watching.poll_line(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Page::Whole(body) => body.size_hint(),
            Page::Lines(_) => SizeHint::default(),
        }
    }
}

/// Begins to follow; a filter with mistakes is answered with all of them.
pub(super) fn follow(watchers: &Arc<Watchers>, query: &str) -> Response<Page> {
    let mut condition: Option<Box<dyn Condition>> = None;
    for (name, value) in pairs(query) {
        if name != "filter" || condition.is_some() {
            let why = "the one parameter is `filter`, a condition such as request.path == '/a'\n";
            return text(StatusCode::BAD_REQUEST, why).map(Page::Whole);
        }
        match filter(&value) {
            Ok(compiled) => condition = Some(Box::new(Test(compiled))),
            Err(mistakes) => {
                let body = json!({ "text": mistakes.text, "diagnostics": mistakes.diagnostics });
                return api::json(StatusCode::BAD_REQUEST, &body).map(Page::Whole);
            }
        }
    }
    let Some(watching) = watchers.watch(condition) else {
        let why = format!("{WATCHERS_MAX} clients follow requests already; end one of them\n");
        return text(StatusCode::SERVICE_UNAVAILABLE, why).map(Page::Whole);
    };
    lines(Page::Lines(watching))
}

/// The requests that failed last.
pub(super) fn failed(watchers: &Watchers) -> Answer {
    let kept = watchers.failed.kept();
    let mut body = kept.lines.concat();
    if kept.passed_over > 0 {
        body.push_str(&format!("{{\"dropped\":{}}}\n", kept.passed_over));
    }
    lines(Full::new(Bytes::from(body)))
}

fn lines<B>(body: B) -> Response<B> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
