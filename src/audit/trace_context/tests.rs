//! The cases of the recommendation: what is taken, what is as good as not there, and what is passed on.

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn parent(value: &str) -> Option<(String, String, bool)> {
    let caller = caller(&headers(&[(TRACEPARENT, value)]))?;
    Some((caller.trace.to_string(), caller.span.to_string(), caller.sampled))
}

fn state(fields: &[&str]) -> Option<String> {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let mut all = vec![(TRACEPARENT, parent.as_str())];
    all.extend(fields.iter().map(|field| (TRACESTATE, *field)));
    let caller = caller(&headers(&all)).expect("what is wrong with the state is no matter of the parent");
    caller.state.map(|state| state.to_str().unwrap().to_owned())
}

#[test]
fn a_parent_is_read_and_written() {
    for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
        let read = parent(&format!("00-{TRACE}-{SPAN}-{flags}"));
        assert_eq!(read, Some((TRACE.into(), SPAN.into(), sampled)), "{flags}");
    }
    let (trace, span) = (TraceId::parse(TRACE).unwrap(), SpanId::of(0xb7ad_6b71_6920_3331));
    assert_eq!(traceparent(trace, span, true), format!("00-{TRACE}-{SPAN}-01"));
    assert_eq!(traceparent(trace, span, false), format!("00-{TRACE}-{SPAN}-00"), "flags that nobody defined are zero");
    assert_eq!(SpanId::of(0), SpanId::of(1));
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let known = Some((TRACE.to_owned(), SPAN.to_owned(), true));
    for later in ["", "-", "-what-comes-then"] {
        assert_eq!(parent(&format!("cc-{TRACE}-{SPAN}-01{later}")), known, "{later}");
    }
    assert_eq!(parent(&format!("cc-{TRACE}-{SPAN}-01.more")), None);
}

#[test]
fn a_malformed_parent_is_none() {
    let zeros = "0".repeat(32);
    for wrong in [
        String::new(),
        TRACE.to_owned(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{TRACE}-{SPAN}-0g"),
        format!("00-{zeros}-{SPAN}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00_{TRACE}_{SPAN}_01"),
        format!("00-{TRACE}{SPAN}-01-0"),
        format!("00-{}-{SPAN}0-01", &TRACE[1..]),
        format!(" 00-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-\u{e9}1"),
    ] {
        assert_eq!(parent(&wrong), None, "{wrong}");
    }
    let one = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(caller(&headers(&[(TRACEPARENT, &one), (TRACEPARENT, &one)])), None, "two of them");
    assert_eq!(caller(&headers(&[(TRACESTATE, "a=1")])), None, "a state without its parent");
}

#[test]
fn a_state_is_passed_on_as_one_field() {
    assert_eq!(state(&[]), None);
    assert_eq!(state(&["", " , "]), None);
    assert_eq!(state(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]).unwrap(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    assert_eq!(state(&["a=1", "b=2 , ,\t0t_-*/x@sys=!~"]).unwrap(), "a=1,b=2,0t_-*/x@sys=!~");
    assert_eq!(state(&["a= 1"]).unwrap(), "a= 1", "spaces inside belong to the value");
    let most: Vec<String> = (0..MEMBERS_MAX).map(|number| format!("k{number}=1")).collect();
    assert_eq!(state(&[&most.join(",")]).unwrap(), most.join(","));
}

#[test]
fn a_malformed_state_is_left_out_whole() {
    let (long, many) = ("k".repeat(KEY_BYTES_MAX + 1), (0..=MEMBERS_MAX).map(|number| format!("k{number}=1")));
    let many = many.collect::<Vec<_>>().join(",");
    let (tenant, value) = (format!("{}@sys=1", "t".repeat(242)), format!("a={}", "v".repeat(VALUE_BYTES_MAX + 1)));
    for wrong in [
        "a",
        "a=",
        "=1",
        "A=1",
        "1a=1",
        "a b=1",
        "a=1,a=2",
        "a=1=2",
        "a@=1",
        "@b=1",
        "a@1b=1",
        "a@b@c=1",
        "a=\u{e9}",
        "a=1,b=x\ty",
        "t@system-too-long=1",
        &format!("{long}=1"),
        &many,
        &tenant,
        &value,
    ] {
        assert_eq!(state(&["ok=1", wrong]), None, "{wrong}");
    }
}

#[test]
fn a_long_state_loses_large_members_first() {
    let (large, small) = (format!("large={}", "x".repeat(200)), |name: &str| format!("{name}={}", "y".repeat(120)));
    let all = [small("a"), large.clone(), small("b"), small("c")].join(",");
    assert_eq!(state(&[&all]).unwrap(), [small("a"), small("b"), small("c")].join(","));
    let all: Vec<String> = ["a", "b", "c", "d", "e"].map(small).into();
    assert_eq!(state(&[&all.join(",")]).unwrap(), all[..4].join(","), "then those at the end");
    let exactly = format!("{},z={}", all[..4].join(","), "z".repeat(STATE_BYTES_MAX - 491 - 3));
    assert_eq!((exactly.len(), state(&[&exactly]).unwrap()), (STATE_BYTES_MAX, exactly.clone()));
    assert!(state(&[&format!("{exactly}z")]).unwrap().len() < STATE_BYTES_MAX);
}
