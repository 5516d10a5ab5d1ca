//! Bodies that are held, and those that are gone.

use super::*;

#[test]
fn a_held_body_can_be_given_twice() {
    let mut body = Body::Buffered(Bytes::from_static(b"abc"));
    assert_eq!(body.give().unwrap().held().unwrap(), "abc");
    assert_eq!(body.give().unwrap().size(), Some(3));
}

#[test]
fn who_is_lent_a_body_can_read_what_is_held_and_nothing_else() {
    assert_eq!(Body::Buffered(Bytes::from_static(b"abc")).lend().give().unwrap().held().unwrap(), "abc");
    let mut lent = Body::Lent(Some(3)).lend();
    assert_eq!((lent.size(), lent.held()), (Some(3), None));
    assert!(matches!(lent.give(), Err(BodyFault::Gone)));
}

#[test]
fn a_body_that_is_gone_says_so() {
    let mut body = Body::Gone;
    assert!(matches!(body.give(), Err(BodyFault::Gone)));
    assert!(body.held().is_none());
}
