//! The last trust scores of every model that has been evaluated, as routing weighs them.

use rusqlite::{Connection, OptionalExtension};

use crate::read::ReadError;

/// Names of models that are looked at; what is evaluated under further ones does not count.
const NAMES: usize = 4096;

/// Each name that was evaluated with its last `each` scores, newest first. Names are found by jumping through the index, so the
/// number of rows does not matter.
pub(crate) fn last_scores(connection: &Connection, each: usize) -> Result<Vec<(String, Vec<f64>)>, ReadError> {
    let mut next = connection.prepare_cached(
        "SELECT model_name FROM model_evaluation_scores WHERE model_name > ?1 ORDER BY model_name LIMIT 1",
    )?;
    let mut scores = connection.prepare_cached(
        "SELECT trust_score FROM model_evaluation_scores WHERE model_name = ?1 AND typeof(trust_score) IN ('real', 'integer') \
         ORDER BY replace(evaluation_timestamp, ' ', 'T') DESC, rowid DESC LIMIT ?2",
    )?;
    let (mut found, mut after) = (Vec::new(), String::new());
    while found.len() < NAMES
        && let Some(name) = next.query_row([&after], |row| row.get::<_, String>(0)).optional()?
    {
        let rows = scores.query_map((&name, each as i64), |row| row.get::<_, f64>(0))?;
        found.push((name.clone(), rows.collect::<Result<_, _>>()?));
        after = name;
    }
    Ok(found)
}
