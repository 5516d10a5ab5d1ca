//! What a message says its body is (RFC 9110 §8.3).

use http::{HeaderMap, header};

/// The media type of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Media<'h> {
    /// `type/subtype` as written.
    pub essence: &'h str,
    parameters: &'h str,
}

impl<'h> Media<'h> {
    /// Reads the one `Content-Type`; `None` where there is none, several, or no text.
    pub fn of(headers: &'h HeaderMap) -> Option<Media<'h>> {
        let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
        let field = fields.next()?.to_str().ok()?;
        if fields.next().is_some() {
            return None;
        }
        let (essence, parameters) = field.split_once(';').unwrap_or((field, ""));
        Some(Media { essence: essence.trim(), parameters })
    }

    /// Whether it is this type, whatever the case.
    pub fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }

    /// JSON, or something whose structure is JSON (RFC 6839 §3.1), in UTF-8.
    pub fn is_json(&self) -> bool {
        let Some((ty, subtype)) = self.essence.split_once('/') else { return false };
        let ends = |suffix: &str| {
            let at = subtype.len().checked_sub(suffix.len());
            at.and_then(|at| subtype.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        !ty.is_empty() && (subtype.eq_ignore_ascii_case("json") || ends("+json")) && self.is_utf8()
    }

    /// Without a `charset`, or with that of UTF-8.
    fn is_utf8(&self) -> bool {
        self.parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            let value = value.trim().trim_matches('"');
            !name.trim().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn is_json(fields: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_static(field));
        }
        Media::of(&headers).is_some_and(|media| media.is_json())
    }

    #[test]
    fn json_is_known_by_its_name_and_suffix() {
        for json in
            ["application/json", "Application/JSON ; charset=\"UTF-8\"", "application/problem+json", "text/json; a=b"]
        {
            assert!(is_json(&[json]), "{json}");
        }
        for other in ["", "json", "application/jsonx", "application/x+xml", "application/json; charset=utf-16", "/json"]
        {
            assert!(!is_json(&[other]), "{other}");
        }
        assert!(!is_json(&[]) && !is_json(&["application/json", "application/json"]));
    }
}
