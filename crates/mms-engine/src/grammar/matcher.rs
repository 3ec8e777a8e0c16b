//! Follows a [`Grammar`] byte by byte. What may come next is a set of stacks, each the places in rules at which matching goes on;
//! stacks share their lower parts. Sets that were met are kept with the sets that follow them, so that a text, and all the tokens
//! that could continue it, are followed mostly by looking up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Element, Grammar, GrammarError, contains};

/// A place in a text of the grammar: valid until the matcher accepts something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// No text can get here.
    pub(crate) const DEAD: Self = Self(0);
}

/// A text that follows a grammar, as far as it has come.
#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    grammar: Arc<Grammar>,
    /// Stacks: where matching goes on, and the stack below. The first is the empty one.
    stacks: Vec<(u32, u32)>,
    stack_index: HashMap<(u32, u32), u32>,
    states: Vec<State>,
    state_index: HashMap<Box<[u32]>, u32>,
    current: u32,
    /// Stacks looked at since [`Matcher::rest`].
    work: usize,
}

#[derive(Debug, Clone)]
struct State {
    /// Sorted; each goes on with a byte. The empty stack, first if it is there, stands for the end of the text.
    stacks: Box<[u32]>,
    next: Option<Box<[u32; 256]>>,
}

const DEAD: u32 = 0;
const UNKNOWN: u32 = u32::MAX;
const EMPTY_STACK: u32 = 0;

/// Work for one token, with all that are tried in its place: well below a second.
const MOST_WORK: usize = 1_000_000;
/// More than one token needs, and some 50 MB.
const MOST_STATES: usize = 40_000;
const MOST_STACKS: usize = 2_000_000;
/// Then what is not needed any more is forgotten.
const MANY_STATES: usize = 5_000;
const MANY_STACKS: usize = 200_000;

impl Matcher {
    /// At the beginning of a text.
    pub(crate) fn new(grammar: Arc<Grammar>) -> Result<Self, GrammarError> {
        let root = grammar.root;
        let mut matcher = Self::empty(grammar);
        let mut todo = Vec::new();
        matcher.enter(root, EMPTY_STACK, &mut todo);
        matcher.current = matcher.settle(todo)?;
        if matcher.current == DEAD { Err(GrammarError::Nothing) } else { Ok(matcher) }
    }

    fn empty(grammar: Arc<Grammar>) -> Self {
        let dead = State { stacks: Box::new([]), next: None };
        Self {
            grammar,
            stacks: vec![(0, 0)],
            stack_index: HashMap::new(),
            states: vec![dead],
            state_index: HashMap::from([(Box::default(), DEAD)]),
            current: DEAD,
            work: 0,
        }
    }

    /// Where the text is now.
    pub(crate) fn here(&self) -> Place {
        Place(self.current)
    }

    /// Where `bytes` lead from `place`.
    pub(crate) fn after(&mut self, place: Place, bytes: &[u8]) -> Result<Place, GrammarError> {
        let mut state = place.0;
        for &byte in bytes {
            if state == DEAD {
                break;
            }
            state = self.step(state, byte)?;
        }
        Ok(Place(state))
    }

    /// The text goes on to `place`.
    pub(crate) fn accept(&mut self, place: Place) {
        self.current = place.0;
        self.work = 0;
        if self.states.len() > MANY_STATES || self.stacks.len() > MANY_STACKS {
            self.forget();
        }
    }

    /// The text may end here.
    pub(crate) fn may_end(&self) -> bool {
        self.states[self.current as usize].stacks.first() == Some(&EMPTY_STACK)
    }

    /// The text must end here.
    pub(crate) fn must_end(&self) -> bool {
        *self.states[self.current as usize].stacks == [EMPTY_STACK]
    }

    pub(crate) fn grammar(&self) -> &Arc<Grammar> {
        &self.grammar
    }

    fn step(&mut self, state: u32, byte: u8) -> Result<u32, GrammarError> {
        if let Some(next) = &self.states[state as usize].next
            && next[usize::from(byte)] != UNKNOWN
        {
            return Ok(next[usize::from(byte)]);
        }
        let mut todo = Vec::new();
        for place in 0..self.states[state as usize].stacks.len() {
            let stack = self.states[state as usize].stacks[place];
            let (at, below) = self.stacks[stack as usize];
            if stack == EMPTY_STACK {
                continue;
            }
            let Element::Byte(set) = self.grammar.elements[at as usize] else { continue };
            if contains(&self.grammar.sets[set as usize], byte) {
                todo.push(self.go_on(at, below));
            }
        }
        let next = self.settle(todo)?;
        let row = self.states[state as usize].next.get_or_insert_with(|| Box::new([UNKNOWN; 256]));
        row[usize::from(byte)] = next;
        Ok(next)
    }

    /// The stack after the element at `at`.
    fn go_on(&mut self, at: u32, below: u32) -> u32 {
        match self.grammar.elements[at as usize + 1] {
            Element::End => below,
            Element::Byte(_) | Element::Rule(_) => self.stack(at + 1, below),
        }
    }

    fn stack(&mut self, at: u32, below: u32) -> u32 {
        let next = super::index(self.stacks.len());
        *self.stack_index.entry((at, below)).or_insert_with(|| {
            self.stacks.push((at, below));
            next
        })
    }

    /// Appends the stacks with which `rule` begins.
    fn enter(&mut self, rule: u32, below: u32, todo: &mut Vec<u32>) {
        let grammar = Arc::clone(&self.grammar);
        for &start in &grammar.alternatives[rule as usize] {
            todo.push(match grammar.elements[start as usize] {
                Element::End => below,
                Element::Byte(_) | Element::Rule(_) => self.stack(start, below),
            });
        }
    }

    /// The state of these stacks, with rules replaced by what they begin with.
    fn settle(&mut self, mut todo: Vec<u32>) -> Result<u32, GrammarError> {
        let mut seen = HashSet::new();
        let mut settled = Vec::new();
        while let Some(stack) = todo.pop() {
            if !seen.insert(stack) {
                continue;
            }
            self.work += 1;
            if self.work > MOST_WORK || self.stacks.len() > MOST_STACKS {
                return Err(GrammarError::TooAmbiguous);
            }
            let (at, below) = self.stacks[stack as usize];
            if stack == EMPTY_STACK {
                settled.push(stack);
                continue;
            }
            match self.grammar.elements[at as usize] {
                Element::Byte(_) => settled.push(stack),
                Element::End => todo.push(below),
                Element::Rule(rule) => {
                    let then = self.go_on(at, below);
                    self.enter(rule, then, &mut todo);
                }
            }
        }
        settled.sort_unstable();
        let settled = settled.into_boxed_slice();
        if let Some(&known) = self.state_index.get(&settled) {
            return Ok(known);
        }
        if self.states.len() > MOST_STATES {
            return Err(GrammarError::TooAmbiguous);
        }
        let new = super::index(self.states.len());
        self.states.push(State { stacks: settled.clone(), next: None });
        self.state_index.insert(settled, new);
        Ok(new)
    }

    /// Keeps only where the text is.
    fn forget(&mut self) {
        let old = std::mem::replace(self, Self::empty(Arc::clone(&self.grammar)));
        let mut moved: HashMap<u32, u32> = HashMap::from([(EMPTY_STACK, EMPTY_STACK)]);
        let mut kept = Vec::new();
        for &top in &old.states[old.current as usize].stacks {
            let mut path = Vec::new();
            let mut stack = top;
            while !moved.contains_key(&stack) {
                path.push(stack);
                stack = old.stacks[stack as usize].1;
            }
            for &stack in path.iter().rev() {
                let (at, below) = old.stacks[stack as usize];
                let new = self.stack(at, moved[&below]);
                moved.insert(stack, new);
            }
            kept.push(moved[&top]);
        }
        kept.sort_unstable();
        let kept = kept.into_boxed_slice();
        self.current = super::index(self.states.len());
        self.states.push(State { stacks: kept.clone(), next: None });
        self.state_index.insert(kept, self.current);
    }
}
