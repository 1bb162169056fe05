//! What states an operator has.

use std::hash::Hash;

use weir_checkpoint::{Column, StateKind, TableDeclaration};

use super::cells::{Cells, TypedCells};
use super::content::{Content, StateMap, Timed, TimedList, TimedMap};
use super::handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
use super::rows::CellType;
use super::ttl::StateTtl;
use crate::operators::Aggregator;
use crate::record::{Record, Schema, SchemaBuilder};
use crate::snapshot::schema_of;

/// A state of an operator.
pub(crate) struct DeclaredColumn {
    pub(super) name: String,
    pub(super) kind: StateKind,
    pub(super) schema: Schema,
    /// Of the times of use, which are a column of their own in snapshots.
    pub(super) times: Option<Schema>,
    pub(super) ttl: Option<StateTtl>,
    pub(super) cell: CellType,
    pub(super) cells: &'static dyn Cells,
}

impl DeclaredColumn {
    /// The name of the column of times of use.
    pub(super) fn times_name(&self) -> String {
        format!("{}.used", self.name)
    }
}

/// All states of an operator.
#[derive(Default)]
pub(crate) struct Declared {
    pub(super) columns: Vec<DeclaredColumn>,
}

impl Declared {
    /// To declare states with.
    pub(crate) fn declarer(&mut self) -> StateDeclarer<'_> {
        StateDeclarer { declared: self, ttl: None }
    }

    pub(super) fn add<C: Content>(&mut self, name: &str, kind: StateKind, ttl: Option<StateTtl>) -> u32 {
        assert!(
            self.columns.iter().all(|c| c.name != name),
            "state `{name}` is declared twice; give each state of an operator its own name"
        );
        self.columns.push(DeclaredColumn {
            name: name.to_owned(),
            kind,
            schema: C::values_schema(&mut SchemaBuilder::new()),
            times: C::times_schema(),
            ttl,
            cell: CellType::of::<C>(),
            cells: TypedCells::<C>::ERASED,
        });
        (self.columns.len() - 1) as u32
    }

    /// The columns as they are in snapshots.
    pub(super) fn snapshot_columns(&self) -> Vec<Column> {
        let columns = self.columns.iter().flat_map(|column| {
            let values = Column { name: column.name.clone(), kind: column.kind, schema: column.schema.clone() };
            let times = column.times.clone().map(|schema| Column {
                name: column.times_name(),
                kind: StateKind::Internal,
                schema,
            });
            [Some(values), times]
        });
        columns.flatten().collect()
    }

    /// The table as it is in snapshots.
    pub(crate) fn table<K: Record>(&self) -> TableDeclaration {
        let columns = self.snapshot_columns();
        TableDeclaration { name: super::keyed::TABLE.to_owned(), key: schema_of::<K>(), columns }
    }
}

/// Declares the states of a function. Each state has a name of its own, by which it is found again in checkpoints.
pub struct StateDeclarer<'a> {
    declared: &'a mut Declared,
    ttl: Option<StateTtl>,
}

impl std::fmt::Debug for StateDeclarer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateDeclarer({} states)", self.declared.columns.len())
    }
}

impl StateDeclarer<'_> {
    /// Declares states that expire: `states.expiring(ttl).value("last")`.
    ///
    /// Expiry can be added to a state, changed and taken away when a job is restored; what had no times of use begins to live then.
    pub fn expiring(&mut self, ttl: StateTtl) -> StateDeclarer<'_> {
        StateDeclarer { declared: self.declared, ttl: Some(ttl) }
    }

    fn value_of_kind<V: Record>(&mut self, name: &str, kind: StateKind) -> ValueState<V> {
        let column = match self.ttl {
            None => self.declared.add::<V>(name, kind, None),
            Some(_) => self.declared.add::<Timed<V>>(name, kind, self.ttl),
        };
        ValueState::declared(column, self.ttl.is_some())
    }

    /// A state of one value per key.
    pub fn value<V: Record>(&mut self, name: &str) -> ValueState<V> {
        self.value_of_kind(name, StateKind::Value)
    }

    /// A state of a list per key.
    pub fn list<V: Record>(&mut self, name: &str) -> ListState<V> {
        let column = match self.ttl {
            None => self.declared.add::<Vec<V>>(name, StateKind::List, None),
            Some(_) => self.declared.add::<TimedList<V>>(name, StateKind::List, self.ttl),
        };
        ListState::declared(column, self.ttl.is_some())
    }

    /// A state of a map per key.
    pub fn map<K2: Record + Eq + Hash, V: Record>(&mut self, name: &str) -> MapState<K2, V> {
        let column = match self.ttl {
            None => self.declared.add::<StateMap<K2, V>>(name, StateKind::Map, None),
            Some(_) => self.declared.add::<TimedMap<K2, V>>(name, StateKind::Map, self.ttl),
        };
        MapState::declared(column, self.ttl.is_some())
    }

    /// A state of one value per key that others are combined with by `reduce`.
    pub fn reducing<V: Record>(&mut self, name: &str, reduce: fn(V, V) -> V) -> ReducingState<V> {
        ReducingState::declared(self.value_of_kind(name, StateKind::Reducing), reduce)
    }

    /// One accumulator per key, for an operator that folds by itself.
    pub(crate) fn accumulator<V: Record>(&mut self, name: &str) -> ValueState<V> {
        self.value_of_kind(name, StateKind::Aggregating)
    }

    /// A state of one accumulator per key that values are folded into by `aggregator`.
    pub fn aggregating<In, A: Aggregator<In>>(&mut self, name: &str, aggregator: A) -> AggregatingState<In, A> {
        AggregatingState::declared(self.value_of_kind(name, StateKind::Aggregating), aggregator)
    }
}
