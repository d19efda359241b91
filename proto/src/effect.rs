//! What a state machine wants done: first what must be on disk, then what the world may see.

/// The outcome of one or more inputs. Nothing in it has happened yet.
#[must_use = "nothing is stored or sent until the effects are carried out"]
#[derive(Clone, Debug)]
pub struct Effects<R, A> {
    records: Vec<R>,
    actions: Vec<A>,
}

impl<R, A> Default for Effects<R, A> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            actions: Vec::new(),
        }
    }
}

impl<R, A> Effects<R, A> {
    /// Asks for a record to be durable before any action is taken.
    pub fn persist(&mut self, record: R) {
        self.records.push(record);
    }

    /// Asks for an action.
    pub fn act(&mut self, action: A) {
        self.actions.push(action);
    }

    /// Adds the outcome of a later input, so that one flush serves both.
    pub fn append(&mut self, mut later: Self) {
        self.records.append(&mut later.records);
        self.actions.append(&mut later.actions);
    }

    /// What is to be durable.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// How many actions there are.
    pub fn actions(&self) -> usize {
        self.actions.len()
    }

    /// Whether all actions from this place on are such that they may wait. Nobody is told more of them.
    pub fn may_wait(&self, from: usize, such: impl FnMut(&A) -> bool) -> bool {
        self.actions.iter().skip(from).all(such)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.actions.is_empty()
    }

    /// Stores the records, then hands out the actions. There is no other way to get at them, so
    /// nobody sees what a crash could take back.
    pub fn save<E>(self, store: impl FnOnce(&[R]) -> Result<(), E>) -> Result<Vec<A>, E> {
        if !self.records.is_empty() {
            store(&self.records)?;
        }
        Ok(self.actions)
    }
}
