//! Tests of the directory: what is answered at once, what is remembered, and that denials look alike.

use super::*;
use crate::identity::throttle::Guessing;

const CLIENT: &str = "203.0.113.1";

fn hash(cost: u32) -> PasswordHash {
    PasswordHash::parse(&bcrypt::hash("right", cost).unwrap()).unwrap()
}

fn user(disabled: bool) -> User {
    let attributes = BTreeMap::from([("mail".into(), "ann@example.com".into())]);
    User { password: hash(4), groups: Arc::from(["managers".into()]), attributes, disabled }
}

fn staff(ignore_case: bool) -> (Users, Throttle) {
    let users = [("Ann".to_owned(), user(false)), ("dan".to_owned(), user(true))];
    (Users::new("staff", ignore_case, users).unwrap(), Throttle::new(Guessing::default()))
}

/// A whole check, and whether hash work was done.
fn check((users, throttle): &(Users, Throttle), name: &str, password: &str, now_ms: u64) -> (Answer, bool) {
    match users.begin(throttle, name, password, CLIENT, now_ms) {
        Check::Answer(answer) => (answer, false),
        Check::Work(job) => (users.finish(throttle, job.run(), now_ms), true),
    }
}

fn denial(answer: (Answer, bool)) -> (Denial, bool) {
    match answer {
        (Answer::Denied(denial), worked) => (denial, worked),
        other => panic!("expected a denial, came {other:?}"),
    }
}

#[test]
fn a_right_password_gives_the_identity_and_is_remembered_for_a_minute() {
    let staff = staff(false);
    let (Answer::Known(first), true) = check(&staff, "Ann", "right", 0) else {
        panic!("expected Ann to be known after work");
    };
    assert_eq!((first.scheme, &*first.subject, &*first.groups[0]), ("basic", "Ann", "managers"));
    assert_eq!(first.attributes.get("mail").map(|v| &**v), Some("ann@example.com"));
    let (Answer::Known(again), false) = check(&staff, "Ann", "right", POSITIVE_MS - 1) else {
        panic!("expected Ann to be remembered");
    };
    assert!(Arc::ptr_eq(&first, &again));
    assert!(matches!(check(&staff, "Ann", "right", POSITIVE_MS), (Answer::Known(_), true)));
    assert_eq!(denial(check(&staff, "Ann", "right2", POSITIVE_MS)), (Denial::WrongPassword, true));
}

#[test]
fn unknown_and_disabled_names_cost_the_same_work_as_a_wrong_password() {
    let staff = staff(false);
    assert_eq!(denial(check(&staff, "Ann", "wrong", 0)), (Denial::WrongPassword, true));
    assert_eq!(denial(check(&staff, "bob", "right", 0)), (Denial::UnknownUser, true));
    assert_eq!(denial(check(&staff, "dan", "right", 0)), (Denial::Disabled, true));
    assert_eq!(denial(check(&staff, "dan", "wrong", 0)), (Denial::Disabled, true));
    assert_eq!(denial(check(&staff, "dan", "right", 0)), (Denial::Disabled, true), "never remembered");
    assert_eq!(denial(check(&staff, "ann", "right", 0)), (Denial::UnknownUser, true), "case matters");
    let Check::Work(job) = staff.0.begin(&staff.1, "bob", "right", CLIENT, 0) else {
        panic!("expected work");
    };
    assert_eq!(job.hash.cost_class(), hash(4).cost_class());
}

#[test]
fn broken_credentials_are_refused_before_any_lookup_and_not_counted() {
    let staff = staff(false);
    let long = "a".repeat(PASSWORD_BYTES_MAX + 1);
    let broken = [
        ("", "right", Denial::EmptyName),
        ("Ann", "", Denial::EmptyPassword),
        ("Ann\0", "right", Denial::ControlCharacter),
        ("Ann", "right\0", Denial::ControlCharacter),
        ("Ann", "ri\u{7f}ght", Denial::ControlCharacter),
        ("Ann", "ri\u{85}ght", Denial::ControlCharacter),
        ("Ann", &long, Denial::TooLong),
        (&long, "right", Denial::TooLong),
    ];
    for (name, password, want) in broken {
        assert!(want.is_malformed());
        for _ in 0..20 {
            assert_eq!(denial(check(&staff, name, password, 0)), (want, false));
        }
    }
    assert!(staff.1.is_empty());
    assert_eq!(denial(check(&staff, "Ann", " ", 0)), (Denial::WrongPassword, true));
}

#[test]
fn case_is_ignored_where_asked_and_the_subject_is_as_stored() {
    let staff = staff(true);
    let (Answer::Known(identity), _) = check(&staff, "aNN", "right", 0) else {
        panic!("expected Ann to be known");
    };
    assert_eq!(&*identity.subject, "Ann");
    assert!(staff.0.knows("ANN") && !staff.0.knows("bob"));
    let twice = [("Ann".to_owned(), user(false)), ("ann".to_owned(), user(false))];
    assert!(Users::new("staff", true, twice.clone()).unwrap_err().contains("twice"));
    assert!(Users::new("staff", false, twice).is_ok());
}

#[test]
fn the_eleventh_guess_is_not_answered_not_even_from_memory() {
    let staff = staff(false);
    assert!(matches!(check(&staff, "Ann", "right", 0), (Answer::Known(_), true)));
    for n in 0..10 {
        assert_eq!(denial(check(&staff, "Ann", &format!("guess {n}"), 1)), (Denial::WrongPassword, true));
    }
    for password in ["right", "wrong"] {
        let answer = check(&staff, "Ann", password, 1);
        assert!(matches!(answer, (Answer::TooManyFailures { retry_after_s: 300 }, false)), "{answer:?}");
    }
    assert!(matches!(check(&staff, "Ann", "right", 300_001), (Answer::Known(_), true)));
}

#[test]
fn guesses_sent_all_at_once_tell_no_more() {
    let (users, throttle) = staff(false);
    let passwords = (0..20).map(|n| if n == 15 { "right".to_owned() } else { format!("guess {n}") });
    let outcomes: Vec<Outcome> = passwords
        .map(|password| match users.begin(&throttle, "Ann", &password, CLIENT, 0) {
            Check::Work(job) => job.run(),
            Check::Answer(answer) => panic!("expected work, came {answer:?}"),
        })
        .collect();
    let answers: Vec<Answer> = outcomes.into_iter().map(|outcome| users.finish(&throttle, outcome, 0)).collect();
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Answer::Denied(_))).count(), 10);
    assert!(answers[10..].iter().all(|answer| matches!(answer, Answer::TooManyFailures { .. })));
}

#[test]
fn the_throttle_outlives_the_directory() {
    let (old, throttle) = staff(false);
    let mut staff = (old, throttle);
    for n in 0..10 {
        check(&staff, "Ann", &format!("guess {n}"), 0);
    }
    staff.0 = Users::new("staff", false, [("Ann".to_owned(), user(false))]).unwrap();
    assert!(matches!(check(&staff, "Ann", "right", 0), (Answer::TooManyFailures { .. }, false)));
}

#[test]
fn stand_ins_are_spread_like_the_entries() {
    let hashes = [hash(4), hash(4), hash(4), hash(5)];
    let dummies = Dummies::like(hashes.iter());
    let dear = (0..1000).filter(|n| dummies.of("staff", &n.to_string()).cost_class() == hashes[3].cost_class()).count();
    assert!((150..350).contains(&dear), "{dear} of 1000");
    let same = dummies.of("staff", "bob");
    assert!(Arc::ptr_eq(same, dummies.of("staff", "bob")));
    let none = Dummies::like(std::iter::empty());
    assert_eq!(none.of("staff", "bob").kind(), "argon2id");
}

#[test]
fn names_with_which_nobody_could_log_in_are_errors() {
    for name in ["", "a:b", "a\nb"] {
        assert!(Users::new("staff", false, [(name.to_owned(), user(false))]).is_err(), "{name:?}");
    }
}

#[test]
fn a_job_can_cross_threads_and_shows_nothing() {
    fn crosses<T: Send + 'static>(value: T) -> T {
        value
    }
    let (users, throttle) = staff(false);
    let Check::Work(job) = users.begin(&throttle, "Ann", "right", CLIENT, 0) else {
        panic!("expected work");
    };
    let job = crosses(job);
    assert_eq!(format!("{job:?}"), "HashJob(bcrypt)");
    let outcome = std::thread::spawn(move || job.run()).join().unwrap();
    assert!(matches!(users.finish(&throttle, outcome, 0), Answer::Known(_)));
}
