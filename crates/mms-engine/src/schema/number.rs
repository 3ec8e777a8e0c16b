//! Numbers as JSON writes them. Bounds of integers are enforced digit by digit.

use serde_json::{Map, Value};

use super::text;
use crate::grammar::Expr;

/// What a schema of an integer can say.
pub(super) const KEYWORDS: &[&str] = &["type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

/// Without a bound, 16 digits: as many as every reader of JSON keeps.
const USUAL_MOST: i128 = 9_999_999_999_999_999;
/// With a bound.
const MOST: i128 = i64::MAX as i128;

/// Any number; its exponent is one that a 64-bit float can have.
pub(super) fn number() -> Expr {
    let digits = |least, most| Expr::Repeat(Box::new(digit('0', '9')), least, Some(most));
    let optional = |parts| Expr::Repeat(Box::new(Expr::Sequence(parts)), 0, Some(1));
    let whole = Expr::Choice(vec![text("0"), Expr::Sequence(vec![digit('1', '9'), digits(0, 15)])]);
    let mark = Expr::Class(vec![('E', 'E'), ('e', 'e')]);
    let sign = Expr::Repeat(Box::new(Expr::Class(vec![('+', '+'), ('-', '-')])), 0, Some(1));
    Expr::Sequence(vec![
        optional(vec![text("-")]),
        whole,
        optional(vec![text("."), digits(1, 16)]),
        optional(vec![mark, sign, digits(1, 2)]),
    ])
}

/// Integers within the bounds of `schema`.
pub(super) fn integer(schema: &Map<String, Value>) -> Result<Expr, String> {
    let (least, most) = bounds(schema)?;
    // Beyond the usual digits only where the other bound is there already.
    let usual =
        |other: Option<i128>| if other.is_some_and(|other| other.abs() > USUAL_MOST) { MOST } else { USUAL_MOST };
    let low = least.unwrap_or_else(|| -usual(most)).clamp(-MOST, MOST);
    let high = most.unwrap_or_else(|| usual(least)).clamp(-MOST, MOST);
    if low > high {
        return Err(format!("no integer is at least {low} and at most {high}"));
    }
    let mut choices = Vec::new();
    if high >= 0 {
        choices.extend(between(low.max(0), high));
    }
    if low < 0 {
        let negative = Expr::Choice(between((-high).max(1), -low));
        choices.push(Expr::Sequence(vec![text("-"), negative]));
    }
    Ok(Expr::Choice(choices))
}

fn bounds(schema: &Map<String, Value>) -> Result<(Option<i128>, Option<i128>), String> {
    let bound = |key: &str| match schema.get(key) {
        None | Some(Value::Bool(_)) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64().map(|float| (number.as_i128(), float))),
        Some(_) => Err(format!("`{key}` must be a number")),
    };
    let is_set = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    let up = |(whole, float): (Option<i128>, f64)| whole.unwrap_or(float.ceil() as i128);
    let down = |(whole, float): (Option<i128>, f64)| whole.unwrap_or(float.floor() as i128);
    let is_whole = |(whole, float): (Option<i128>, f64)| whole.is_some() || float.fract() == 0.0;
    let above = |b: (Option<i128>, f64)| if is_whole(b) { up(b).saturating_add(1) } else { up(b) };
    let below = |b: (Option<i128>, f64)| if is_whole(b) { down(b).saturating_sub(1) } else { down(b) };
    // `exclusiveMinimum` is a bound of its own, or in an early draft a word about `minimum`.
    let minimum = bound("minimum")?.map(|b| if is_set("exclusiveMinimum") { above(b) } else { up(b) });
    let maximum = bound("maximum")?.map(|b| if is_set("exclusiveMaximum") { below(b) } else { down(b) });
    let least = minimum.into_iter().chain(bound("exclusiveMinimum")?.map(above)).max();
    let most = maximum.into_iter().chain(bound("exclusiveMaximum")?.map(below)).min();
    Ok((least, most))
}

/// The numbers from `low` to `high`, neither negative, by their number of digits.
fn between(low: i128, high: i128) -> Vec<Expr> {
    let mut choices = Vec::new();
    let mut low = low;
    while low <= high {
        let digits = low.to_string();
        let most_of_length = 10_i128.pow(u32::try_from(digits.len()).unwrap_or(0)) - 1;
        let upto = most_of_length.min(high);
        choices.push(same_length(digits.as_bytes(), upto.to_string().as_bytes()));
        low = upto + 1;
    }
    choices
}

fn same_length(low: &[u8], high: &[u8]) -> Expr {
    let (Some((&a, low_rest)), Some((&b, high_rest))) = (low.split_first(), high.split_first()) else {
        return Expr::Sequence(Vec::new());
    };
    let count = u32::try_from(low_rest.len()).unwrap_or(0);
    let any = Expr::Repeat(Box::new(digit('0', '9')), count, Some(count));
    let (zeros, nines) = (vec![b'0'; low_rest.len()], vec![b'9'; low_rest.len()]);
    // Looked at first: below it, each digit would double the work.
    if low_rest == zeros && high_rest == nines {
        return Expr::Sequence(vec![digit(char::from(a), char::from(b)), any]);
    }
    let one = |byte: u8| digit(char::from(byte), char::from(byte));
    if a == b {
        return Expr::Sequence(vec![one(a), same_length(low_rest, high_rest)]);
    }
    let mut choices = vec![Expr::Sequence(vec![one(a), same_length(low_rest, &nines)])];
    if a + 1 < b {
        choices.push(Expr::Sequence(vec![digit(char::from(a + 1), char::from(b - 1)), any.clone()]));
    }
    choices.push(Expr::Sequence(vec![one(b), same_length(&zeros, high_rest)]));
    Expr::Choice(choices)
}

fn digit(from: char, to: char) -> Expr {
    Expr::Class(vec![(from, to)])
}
