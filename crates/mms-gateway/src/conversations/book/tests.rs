//! The book against its bounds, in random orders of use.

use std::time::Duration;

use mms_protocol::generate::{ChatMessage, Role};
use mms_store::Turn;

use super::{Book, Bounds, Done, Gone, history};

fn book(conversations: usize, bytes: usize) -> Book {
    Book::new(Bounds { conversations, bytes, age: Duration::from_secs(100) })
}

/// A turn of two messages, together of about so many bytes.
fn done(id: &str, label: u64, bytes: usize, begins: u64) -> Done {
    let answer = ChatMessage::new(Role::Assistant, "x".repeat(bytes));
    let turn = Turn::new(vec![ChatMessage::new(Role::User, ""), answer], None);
    Done { id: id.to_owned(), label, system: Vec::new(), turn, model: "m".to_owned(), begins }
}

fn add(book: &mut Book, id: &str, bytes: usize, now: f64) -> (u64, u64, Vec<String>) {
    assert!(book.enter(id).is_some(), "there is a place");
    let begins = book.get(id).map_or(0, |kept| kept.first_message);
    let (_, view, gone) = book.add(done(id, 1, bytes, begins), now);
    book.leave(id);
    (view.turns, view.turns_left_out, gone.iter().map(|gone| gone.id.clone()).collect())
}

#[test]
fn the_one_used_longest_ago_goes_first_and_none_that_is_in_use() {
    let mut book = book(2, 1 << 20);
    assert_eq!(add(&mut book, "a", 10, 1.0), (1, 0, vec![]));
    assert_eq!(add(&mut book, "b", 10, 2.0), (1, 0, vec![]));
    assert_eq!(add(&mut book, "a", 10, 3.0), (2, 0, vec![]));
    assert_eq!(add(&mut book, "c", 10, 4.0).2, ["b"]);
    assert_eq!(book.enter("a"), Some(0));
    assert_eq!(book.enter("a"), Some(1));
    assert_eq!(add(&mut book, "d", 10, 5.0).2, ["c"], "a is older and in use");
    assert_eq!((book.enter("e"), book.enter("f")), (Some(0), None), "as many are in use as are kept");
    // Too old, but in use.
    assert!(book.expire(500.0).iter().map(|gone| gone.id.as_str()).eq(["d"]));
    assert!(!book.leave("a") && book.leave("a"));
    assert_eq!(book.expire(500.0).len(), 1);
    assert!(book.clear("a").is_none());
    assert_eq!(book.figures(), (0, 0, Gone { age: 2, room: 2, cleared: 0 }));
}

#[test]
fn bytes_are_bounded_by_whole_conversations_and_then_by_turns() {
    let mut book = book(10, 10_000);
    assert_eq!(add(&mut book, "a", 4000, 1.0), (1, 0, vec![]));
    assert_eq!(add(&mut book, "b", 4000, 2.0), (1, 0, vec![]));
    assert_eq!(add(&mut book, "b", 4000, 3.0), (2, 0, vec!["a".to_owned()]));
    assert_eq!(add(&mut book, "b", 4000, 4.0), (3, 0, vec![]), "the model was shown both");
    // Only then the oldest turn went, so the next one does not have it.
    assert_eq!(add(&mut book, "b", 10, 5.0), (4, 1, vec![]));
    assert!(book.figures().1 <= 10_000);
    // One that is larger than everything.
    assert_eq!(add(&mut book, "b", 20_000, 6.0).0, 5);
    assert_eq!(add(&mut book, "b", 10, 7.0), (6, 5, vec![]));
}

#[test]
fn what_a_model_is_not_shown_is_remembered_for_it() {
    let mut book = book(2, 1 << 20);
    for turn in 0..4 {
        book.add(done("a", 1, 10, if turn == 3 { 4 } else { 0 }), 1.0);
    }
    let (messages, shown) = history(book.get("a").expect("kept"));
    assert_eq!((messages.len(), shown.messages, shown.left_out.get("m")), (8, 8, Some(&4)));
    let (_, view, _) = book.add(done("a", 1, 10, 4), 2.0);
    assert_eq!((view.turns, view.turns_left_out), (5, 2));
    // With other instructions, for instance, everything has room again.
    book.add(done("a", 1, 10, 0), 3.0);
    assert!(history(book.get("a").expect("kept")).1.left_out.is_empty());
}

#[test]
fn what_was_on_disk_never_takes_the_place_of_what_is_here() {
    let mut old = book(2, 1 << 20);
    for (id, now) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        old.add(done(id, 7, 10, 0), now);
    }
    let found = ["b", "c"].map(|id| old.get(id).expect("kept").as_ref().clone());
    let mut book = book(2, 1 << 20);
    book.add(done("b", 1, 10, 0), 50.0);
    assert!(book.enter("new").is_some());
    assert!(book.take_in(found.to_vec(), 60.0).is_empty());
    assert_eq!((book.get("b").map(|kept| kept.label), book.get("c").map(|kept| kept.label)), (Some(1), Some(7)));
    let aged = old.get("c").expect("kept").as_ref().clone();
    assert_eq!(book.take_in(vec![mms_store::Conversation { id: "d".to_owned(), ..aged }], 110.0).len(), 2);
}
