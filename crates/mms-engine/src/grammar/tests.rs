//! Grammars as written, followed byte by byte.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;
use proptest::prelude::*;

use super::gbnf::{complement, grammar, normalized};
use super::matcher::{Matcher, Place};
use super::tokens::{TokenSet, Tokens};
use super::{Grammar, GrammarError};

fn compile(text: &str) -> Result<Grammar, GrammarError> {
    grammar(text, &|name| (name == "<think>").then_some(LlamaToken(7)))
}

fn matcher(text: &str) -> Result<Matcher, GrammarError> {
    Matcher::new(Arc::new(compile(text)?))
}

/// Whether `text` fits, and whether it can go on.
fn fits(matcher: &mut Matcher, text: &[u8]) -> Result<(bool, bool), GrammarError> {
    for byte in text {
        let place = matcher.after(matcher.here(), &[*byte])?;
        if place == Place::DEAD {
            return Ok((false, false));
        }
        matcher.accept(place);
    }
    Ok((matcher.may_end(), !matcher.must_end()))
}

fn check(text: &str, good: &[&str], bad: &[&str]) {
    let whole =
        |sample: &str| fits(&mut matcher(text).expect("a grammar"), sample.as_bytes()).expect("can be followed").0;
    for sample in good {
        assert!(whole(sample), "{sample:?} fits {text:?}");
    }
    for sample in bad {
        assert!(!whole(sample), "{sample:?} does not fit {text:?}");
    }
}

fn refused(text: &str, expect: &str) {
    let error = matcher(text).expect_err("refused").to_string();
    assert!(error.contains(expect), "{text:?}: {error}");
}

#[test]
fn the_notation() {
    check(r#"root ::= "a" | "bc""#, &["a", "bc"], &["", "b", "ab"]);
    check("root ::= [a-cé-ü] [^x\\]\\n]", &["az", "éé", "b🙂"], &["dz", "ax", "a]", "a\n", "a"]);
    check("root ::= x{2,3} \"y\"? x*\nx ::= [0-9]", &["12", "123", "12y", "123y456", "1234567"], &["1", "1y", "y"]);
    check("root ::= \"a\"{2} \"b\"{1,}", &["aab", "aabbb"], &["aa", "ab", "aaab"]);
    check("root ::= (\"a\" # comment | \"x\"\n | \"b\")+ # end\n", &["a", "abba"], &["", "c"]);
    check("# first\nroot ::= \"a\"\n  | \"b\"\n\n", &["a", "b"], &["ab"]);
    check("root ::= . \"\\x41\\u00e9\\U0001F642\\t\\\"\"", &["xAé🙂\t\"", "🙂Aé🙂\t\""], &["Aé🙂\t\""]);
    check("root ::= (\"a\"?)* \"b\"", &["b", "aab"], &["a", ""]);
    check("root ::= \"(\" root \")\" |", &["", "()", "((()))"], &["(", "(()"]);
    check("root ::= list\nlist ::= \"x\" (\",\" list)?", &["x", "x,x,x"], &["x,"]);
    check("root ::= \"\" [a]* [a]* [a]*", &["", "aaaa"], &["b"]);
    check("root ::= \"old\"\nroot ::= \"new\"", &["new"], &["old"]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    refused("", "no rule `root`");
    refused("start ::= \"a\"", "no rule `root`");
    refused("root ::= \"a\"\nb := \"c\"", "line 2 of the grammar: `::=` is expected after the name `b`");
    refused("root ::= \"a", "a literal does not end");
    refused("root ::= [a", "a class of characters does not end");
    refused("root ::= \"\\q\"", "the escape `\\q`");
    refused("root ::= (\"a\"", "`)` is expected, not the end");
    refused("root ::= \"a\" )", "nothing is expected before ')'");
    refused("root ::= *", "something to repeat");
    refused("root ::= \"a\"{2", "`}` is expected");
    refused("root ::= \"a\"{3,2}", "at least 3 and at most 2");
    refused("root ::= \"a\"{1,999999999999}", "repetitions; the limit is");
    refused("root ::= [z-a]", "is empty");
    refused("root ::= []", "an empty class");
    refused("root ::= other", "`other`, but does not define it");
    refused("root ::= !<think>", "not supported");
    refused("root ::= <nothing>", "not one token");
    refused("root ::= <[-1]>", "not one token");
    refused("root ::= é", "nothing is expected before 'é'");
    refused("{\"type\": \"object\"}", "a rule's name is expected");
}

#[test]
fn what_would_never_end_is_refused() {
    refused("root ::= root \"a\" | \"b\"", "`root` of the grammar can begin with itself");
    refused("root ::= a\na ::= b \"x\"\nb ::= a | \"y\"", "can begin with itself");
    // Hidden behind rules that can be empty, at one remove.
    refused("root ::= a root \"x\" | \"y\"\na ::= b\nb ::= | \"z\"", "`root` of the grammar can begin with itself");
    refused("root ::= a\na ::= a", "no text can fit");
    refused("root ::= (\"a\"? \"b\"?)* root \"x\"", "can begin with itself");
}

#[test]
fn size_has_a_bound() {
    refused("root ::= \"a\"{1,100000}{1,100000}", "too large");
    // What is repeated is there once.
    assert!(compile("root ::= ((((\"a\"{100}){100}){100}){100}){100}").is_ok());
    refused(&format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)), "nested more than");
    refused(&"x".repeat(2 << 20), "the limit is");
    assert!(compile("root ::= \"a\"{1,100000}").is_ok());
    let deep: String = (0..20_000).map(|n| format!("r{n} ::= \"a\" r{}\n", n + 1)).collect();
    check(&format!("root ::= r19998\n{deep}r20000 ::= \"b\""), &["aab"], &["ab"]);
    // A chain of rules that begin with each other.
    let chain: String = (0..20_000).map(|n| format!("r{n} ::= r{}\n", n + 1)).collect();
    check(&format!("root ::= r0\n{chain}r20000 ::= \"b\""), &["b"], &["ab"]);
}

#[test]
fn ambiguity_costs_little_or_is_refused() {
    // Adjacent repetitions, each of which could take every character: exponential for whoever follows each way by itself.
    let spaces = format!("root ::= {} \"x\"", "[ ]* ".repeat(50));
    check(&spaces, &[&format!("{}x", " ".repeat(500))], &[]);
    let nested = "root ::= ((((\"a\"*)*)*)*)* \"b\"";
    check(nested, &[&format!("{}b", "a".repeat(300))], &["c"]);
    // Stacks that are all different: as many as ways to divide the text.
    let mut many =
        matcher("root ::= a\na ::= \"x\" a \"y\" | \"x\" a \"z\" | \"x\" a \"w\" a | \"x\"").expect("a grammar");
    let long = "x".repeat(100);
    assert!(matches!(fits(&mut many, long.as_bytes()), Ok((true, _)) | Err(GrammarError::TooAmbiguous)));
}

#[test]
fn a_long_text_takes_bounded_memory() {
    let mut json = matcher("root ::= v\nv ::= \"[\" (v (\",\" v)*)? \"]\" | [0-9]+").expect("a grammar");
    let text = format!("[{}1{}]", "[2],".repeat(8000), ",3".repeat(8000));
    assert_eq!(fits(&mut json, text.as_bytes()), Ok((true, false)));
}

fn vocabulary(texts: &[&[u8]]) -> Tokens {
    let ends = texts.iter().map(|text| *text == b"</s>").collect();
    Tokens::new(texts.iter().map(|text| (*text).into()).collect(), ends)
}

fn allowed(tokens: &Tokens, matcher: &mut Matcher, count: i32) -> Vec<i32> {
    let mut set = TokenSet::default();
    tokens.all_allowed(matcher, &mut set).expect("can be followed");
    let all: Vec<i32> = (0..count).filter(|&id| set.contains(LlamaToken(id))).collect();
    for id in 0..count {
        let alone = tokens.after(LlamaToken(id), matcher).expect("can be followed") != Place::DEAD;
        assert_eq!(alone, all.contains(&id), "token {id}");
    }
    all
}

#[test]
fn tokens_that_may_come_next() {
    let smile = "🙂".as_bytes();
    let texts: [&[u8]; 10] = [b"</s>", b"a", b"ab", b"abc", b"b", b"", &smile[..2], &smile[2..], b"ab", b"ac\xf0"];
    let tokens = vocabulary(&texts);
    let mut matcher = matcher("root ::= \"ab\"? [🙂]? <[5]>?").expect("a grammar");
    assert_eq!(allowed(&tokens, &mut matcher, 10), [0, 1, 2, 5, 6, 8]);
    let place = tokens.after(LlamaToken(1), &mut matcher).expect("can be followed");
    matcher.accept(place);
    assert_eq!(allowed(&tokens, &mut matcher, 10), [4]);
    let place = tokens.after(LlamaToken(4), &mut matcher).expect("can be followed");
    matcher.accept(place);
    let place = tokens.after(LlamaToken(6), &mut matcher).expect("can be followed");
    matcher.accept(place);
    // The other half of a character, and nothing else.
    assert_eq!(allowed(&tokens, &mut matcher, 10), [7]);
    let place = tokens.after(LlamaToken(7), &mut matcher).expect("can be followed");
    matcher.accept(place);
    assert_eq!((matcher.may_end(), matcher.must_end()), (true, false));
    let place = tokens.after(LlamaToken(5), &mut matcher).expect("can be followed");
    matcher.accept(place);
    assert!(matcher.must_end());
}

proptest! {
    /// Repetitions and alternatives mean what they mean in a regular expression.
    #[test]
    fn like_a_regular_expression(
        parts in proptest::collection::vec(("[abé]", 0_u32..3, proptest::option::of(0_u32..3)), 1..5),
        samples in proptest::collection::vec("[abé]{0,8}", 4),
    ) {
        let mut text = "root ::=".to_owned();
        let mut expression = "^(?:".to_owned();
        for (letter, least, more) in &parts {
            let times = match more {
                None => format!("{{{least},}}"),
                Some(more) => format!("{{{least},{}}}", least + more),
            };
            text.push_str(&format!(" ( \"{letter}\"{times} | \"ba\" )"));
            expression.push_str(&format!("(?:{letter}{times}|ba)"));
        }
        expression.push_str(")$");
        let expression = regex_lite(&expression);
        let grammar = Arc::new(compile(&text).expect("a grammar"));
        for sample in samples {
            let mut matcher = Matcher::new(Arc::clone(&grammar)).expect("a grammar");
            let ours = fits(&mut matcher, sample.as_bytes()).expect("can be followed").0;
            prop_assert_eq!(ours, expression(&sample), "{} {}", text, sample);
        }
    }

    #[test]
    fn all_tokens_at_once_are_the_same_as_one_by_one(
        texts in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xc3_u8), Just(0xa9)], 0..4), 1..30),
        steps in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let tokens = vocabulary(&texts);
        let count = i32::try_from(texts.len()).expect("few");
        let mut matcher = matcher("root ::= (\"a\" [bé]* | \"é\" root \"b\")+").expect("a grammar");
        for step in steps {
            let all = allowed(&tokens, &mut matcher, count);
            if all.is_empty() {
                break;
            }
            let place = tokens.after(LlamaToken(*step.get(&all)), &mut matcher).expect("can be followed");
            matcher.accept(place);
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(root ::= |[a-z\"\\[\\](){}*+?|.<>!\\\\^#, 0-9é\n-]{0,3}|::= ){0,12}") {
        if let Ok(mut matcher) = matcher(&text) {
            let _whatever_comes = fits(&mut matcher, b"abc");
        }
    }

    #[test]
    fn a_complement_has_all_other_characters(ranges in proptest::collection::vec((any::<char>(), any::<char>()), 0..5), c in any::<char>()) {
        let ranges = normalized(ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect());
        let within = |ranges: &[(char, char)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
        prop_assert!(within(&ranges) != within(&complement(&ranges)));
    }
}

/// Whether a whole text fits an expression of letters, groups, alternatives and counted repetitions.
fn regex_lite(expression: &str) -> impl Fn(&str) -> bool {
    let expression = expression.to_owned();
    let hir = regex_syntax::parse(&expression).expect("an expression");
    move |text: &str| ends(&hir, text, 0).contains(&text.len())
}

/// Where the expression can end when it begins at `at`.
fn ends(hir: &regex_syntax::hir::Hir, text: &str, at: usize) -> Vec<usize> {
    use regex_syntax::hir::HirKind;
    let mut all = match hir.kind() {
        HirKind::Empty => vec![at],
        HirKind::Look(look) => {
            let fits = if *look == regex_syntax::hir::Look::Start { at == 0 } else { at == text.len() };
            if fits { vec![at] } else { Vec::new() }
        }
        HirKind::Literal(literal) => {
            if text.as_bytes()[at..].starts_with(&literal.0) {
                vec![at + literal.0.len()]
            } else {
                Vec::new()
            }
        }
        HirKind::Class(_) => panic!("no classes here"),
        HirKind::Capture(capture) => ends(&capture.sub, text, at),
        HirKind::Concat(parts) => parts.iter().fold(vec![at], |starts, part| {
            let mut all: Vec<usize> = starts.into_iter().flat_map(|start| ends(part, text, start)).collect();
            all.sort_unstable();
            all.dedup();
            all
        }),
        HirKind::Alternation(parts) => parts.iter().flat_map(|part| ends(part, text, at)).collect(),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(20);
            let (mut all, mut now) = (Vec::new(), vec![at]);
            for times in 0..=most {
                if times >= repetition.min {
                    all.extend(&now);
                }
                now = now.into_iter().flat_map(|start| ends(&repetition.sub, text, start)).collect();
                now.sort_unstable();
                now.dedup();
            }
            all
        }
    };
    all.sort_unstable();
    all.dedup();
    all
}
