//! The shelf against its rules, on few letters so that common beginnings are common.

use std::time::Duration;

use proptest::prelude::*;

use super::{Found, Id, LEAST_KEPT, Shelf, is_worth_keeping, is_worth_restoring, place};

/// A state in memory of one byte for each token.
fn put(shelf: &mut Shelf<u8>, tokens: &str, cut_from: usize) -> Id {
    let id = shelf.insert(tokens.bytes().collect(), tokens.len(), cut_from, Duration::ZERO);
    shelf.get_mut(id).expect("just inserted").in_ram = true;
    for part in shelf.parts(id) {
        shelf.remove(part);
    }
    id
}

fn found(shelf: &Shelf<u8>, prompt: &str) -> Option<(Id, usize, bool)> {
    shelf.find(prompt.as_bytes(), false).map(|Found { id, common, whole, .. }| (id, common, whole))
}

#[test]
fn the_longest_common_beginning_is_found() {
    let mut shelf = Shelf::new();
    let ships = put(&mut shelf, "be friendly! ships", 0);
    let boats = put(&mut shelf, "be friendly! boats and more", 0);
    assert_eq!(found(&shelf, "be friendly! ships are nice"), Some((ships, 18, true)));
    assert_eq!(found(&shelf, "be friendly! boats"), Some((boats, 17, false)), "the last token is computed again");
    assert_eq!(found(&shelf, "x"), None);
    assert_eq!(found(&shelf, ""), None);
    // Of equals the one in memory.
    shelf.get_mut(boats).expect("kept").in_ram = false;
    assert_eq!(found(&shelf, "be friendly! x"), Some((ships, 13, false)));
    assert_eq!(shelf.find(b"be friendly! boats", true).map(|found| (found.id, found.common)), Some((ships, 13)));
}

#[test]
fn what_cannot_be_cut_serves_as_a_whole_or_from_a_length_on() {
    let mut shelf = Shelf::new();
    let recurrent = put(&mut shelf, "abcdef", 6);
    assert_eq!(found(&shelf, "abcdefg"), Some((recurrent, 6, true)));
    assert_eq!(found(&shelf, "abcdexy"), None);
    assert!(shelf.held(b"abcdef") == 6 && shelf.held(b"abcd") == 0);
    let windowed = put(&mut shelf, "uvwxyz", 4);
    assert_eq!(found(&shelf, "uvwx0123"), Some((windowed, 4, false)));
    assert_eq!(found(&shelf, "uvw0123"), None);
    assert!(shelf.held(b"uvwxy") == 5 && shelf.held(b"uvw") == 0);
}

#[test]
fn a_longer_state_takes_the_place_of_its_beginning() {
    let mut shelf = Shelf::new();
    let [abc, abx] = ["abc", "abx"].map(|tokens| put(&mut shelf, tokens, 0));
    let longer = put(&mut shelf, "abcdef", 0);
    assert!(shelf.get(abc).is_none() && shelf.get(abx).is_some() && shelf.get(longer).is_some());
    // One that cannot be cut leaves the shorter ones.
    put(&mut shelf, "abxyz", 5);
    assert!(shelf.get(abx).is_some());
}

#[test]
fn what_is_in_memory_alone_is_written_when_it_presses_or_rests() {
    let mut shelf = Shelf::new();
    let (early, late) = (Duration::from_secs(1), Duration::from_secs(9));
    let [a, b] = ["aaaa", "bbbb"].map(|tokens| put(&mut shelf, tokens, 0));
    shelf.touch(a, late);
    shelf.touch(b, early);
    assert_eq!(shelf.to_write(15, Duration::ZERO), Some(a), "more than half");
    assert_eq!(shelf.to_write(16, Duration::ZERO), None);
    assert_eq!(shelf.to_write(16, early), None, "the one used longest ago is not calm");
    shelf.touch(a, late);
    assert_eq!(shelf.to_write(16, early), Some(b));
    let large = put(&mut shelf, "cccccc", 0);
    assert_eq!(shelf.to_write(28, Duration::ZERO), None);
    shelf.get_mut(large).expect("kept").on_disk = true;
    assert_eq!(
        (shelf.to_write(20, Duration::ZERO), shelf.to_write(19, Duration::ZERO)),
        (None, Some(b)),
        "room for two"
    );
    shelf.remove(large);
    assert_eq!(shelf.unsaved(), [a, b]);
    shelf.get_mut(b).expect("kept").on_disk = true;
    assert_eq!((shelf.to_write(16, early), shelf.to_write(16, late)), (None, Some(a)));
    assert_eq!(shelf.disk_bytes(), 4);
    assert!(shelf.too_many(0).is_empty(), "both are in memory");
    shelf.get_mut(b).expect("kept").in_ram = false;
    assert_eq!((shelf.too_many(4), shelf.too_many(3)), (vec![], vec![b]));
}

#[test]
fn room_is_made_by_what_is_on_disk_and_then_by_age() {
    let mut shelf = Shelf::new();
    let [a, b, c] = ["aaaa", "bbbb", "cccc"].map(|tokens| put(&mut shelf, tokens, 0));
    assert_eq!(shelf.make_room(4, 16), Some(vec![]));
    assert_eq!(shelf.make_room(4, 12), Some(vec![a]));
    shelf.touch(a, Duration::ZERO);
    assert_eq!(shelf.make_room(4, 12), Some(vec![b]));
    shelf.get_mut(c).expect("kept").on_disk = true;
    assert_eq!(shelf.make_room(8, 12), Some(vec![c, b]));
    shelf.get_mut(c).expect("kept").in_use = true;
    assert_eq!(shelf.make_room(8, 12), Some(vec![b, a]));
    assert_eq!(shelf.make_room(9, 12), None, "what is in use stays");
    assert_eq!(shelf.make_room(13, 12), None);
}

#[test]
fn little_is_not_worth_it() {
    assert!(!is_worth_keeping(LEAST_KEPT - 1, LEAST_KEPT - 1) && is_worth_keeping(LEAST_KEPT, LEAST_KEPT));
    assert!(!is_worth_keeping(4000, 500) && is_worth_keeping(4000, 1000) && !is_worth_keeping(200, 60));
    assert!(is_worth_restoring(32, 0) && !is_worth_restoring(31, 0) && !is_worth_restoring(100, 80));
}

#[test]
fn a_state_goes_where_nothing_is_lost() {
    let slots: [Option<(&[u8], u64)>; 4] = [Some((b"xyz", 1)), Some((b"ab", 9)), None, Some((b"abcd", 3))];
    assert_eq!(place(b"abc", &slots), Some(1));
    assert_eq!(place(b"abcdef", &slots), Some(3));
    assert_eq!(place(b"uvw", &slots), Some(0));
    assert_eq!(place(b"uvw", &[Some((&b"u"[..], 1)), Some((&b""[..], 5))]), Some(0));
    assert_eq!(place(b"uvw", &[None]), None);
}

proptest! {
    #[test]
    fn the_rules_hold(
        sequences in proptest::collection::vec(("[ab]{1,12}", 0_usize..14, any::<bool>()), 0..12),
        prompt in "[ab]{0,14}",
        more in 0_usize..20,
        most in 0_usize..60,
    ) {
        let mut shelf = Shelf::new();
        for (tokens, cut_from, on_disk) in &sequences {
            if shelf.held(tokens.as_bytes()) < tokens.len() {
                let id = put(&mut shelf, tokens, (*cut_from).min(tokens.len()));
                shelf.get_mut(id).expect("kept").on_disk = *on_disk;
            }
        }
        // Whatever was put in can still be had.
        for (tokens, ..) in &sequences {
            prop_assert_eq!(shelf.held(tokens.as_bytes()), tokens.len());
        }
        // What is found is a beginning of the prompt, leaves its last token, and may be cut to that.
        if let Some(found) = shelf.find(prompt.as_bytes(), false) {
            let state = shelf.get(found.id).expect("kept");
            prop_assert!(found.common < prompt.len() && found.common >= state.cut_from);
            prop_assert!(state.tokens.starts_with(&prompt.as_bytes()[..found.common]));
            prop_assert_eq!(found.whole, found.common == state.tokens.len());
        }
        // Room that is made is there, and no more than is needed was given up.
        match shelf.make_room(more, most) {
            None => prop_assert!(more > most),
            Some(leaving) => {
                let last = leaving.last().map(|id| shelf.get(*id).expect("kept").bytes);
                for id in &leaving {
                    shelf.get_mut(*id).expect("kept").in_ram = false;
                }
                prop_assert!(shelf.ram_bytes() + more <= most);
                prop_assert!(last.is_none_or(|bytes| shelf.ram_bytes() + bytes + more > most));
            }
        }
    }
}
