//! The driver's side of the sink: ends transactions.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use weir::sink::{Committer, SinkError};

use super::committable::{KafkaCommittable, Prepared};
use super::outcome::{Outcome, abandoned, outcome};
use super::transactional_id::TransactionName;
use super::{LostTransaction, Settings};
use crate::client::Client;
use crate::error::KafkaError;

/// Commits prepared transactions, and aborts those that nobody will commit.
#[derive(Debug)]
pub(super) struct KafkaCommitter {
    client: Client,
    settings: Settings,
    prefix: String,
    run: String,
    /// Attempts by subtask whose predecessors have been cleaned up after.
    cleaned: BTreeMap<u32, u32>,
}

impl KafkaCommitter {
    pub(super) fn new(client: Client, settings: Settings, prefix: String, run: String) -> KafkaCommitter {
        KafkaCommitter { client, settings, prefix, run, cleaned: BTreeMap::new() }
    }

    fn commit_all(&mut self, committables: &[KafkaCommittable]) -> Result<(), KafkaError> {
        for transaction in committables.iter().filter_map(|one| one.transaction.as_ref()) {
            self.commit_one(transaction)?;
        }
        let attempts: BTreeMap<u32, u32> =
            committables.iter().filter(|one| one.run == self.run).map(|one| (one.subtask, one.attempt)).collect();
        if !attempts.is_empty() && attempts != self.cleaned {
            self.clean_up_after(committables, attempts);
        }
        Ok(())
    }

    fn commit_one(&mut self, transaction: &Prepared) -> Result<(), KafkaError> {
        use ResponseError as E;
        let refused = match self.client.end_transaction(&transaction.id, transaction.identity(), true) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match refused.code() {
            Some(E::InvalidTxnState | E::ProducerFenced | E::InvalidProducerEpoch | E::InvalidProducerIdMapping) => {}
            _ => return Err(refused),
        }
        let found = self.client.describe_transaction(&transaction.id)?;
        let reason = match outcome(transaction, found.as_ref()) {
            Outcome::Committed => return Ok(()),
            Outcome::Unclear(_) => return Err(refused),
            Outcome::Aborted(reason) => reason,
            Outcome::Forgotten => "the broker has forgotten it; it was committed or aborted more than \
                transactional.id.expiration.ms (7 days unless changed) ago"
                .to_owned(),
        };
        let lost = KafkaError::TransactionLost {
            id: transaction.id.clone(),
            producer: transaction.producer,
            epoch: transaction.epoch,
            reason,
        };
        match self.settings.lost_transaction {
            LostTransaction::Fail => Err(lost),
            LostTransaction::GoOn => {
                eprintln!("{lost}");
                Ok(())
            }
        }
    }

    /// Aborts what earlier attempts and runs have left open: readers of committed records cannot get past it. Not doing so is no reason to fail,
    /// as the brokers do it when the transactions time out.
    fn clean_up_after(&mut self, committables: &[KafkaCommittable], attempts: BTreeMap<u32, u32>) {
        let cleaned = self.client.open_transactions().and_then(|open| {
            let lost = abandoned(&open, &self.prefix, &self.run, committables);
            lost.iter().try_for_each(|id| self.abort_one(id))
        });
        match cleaned {
            Ok(()) => self.cleaned = attempts,
            Err(error) => {
                eprintln!("aborting transactions of earlier attempts: {error}; trying again at the next commit")
            }
        }
    }

    fn abort_one(&mut self, id: &str) -> Result<(), KafkaError> {
        let timeout = self.settings.transaction_timeout;
        let what = format!("aborting transaction {id:?}");
        self.client.retrying(&what, |client| match client.try_init_producer(Some(id), timeout) {
            // It is being aborted. Left like this, the id says what became of it.
            Err(error) if error.code() == Some(ResponseError::ConcurrentTransactions) => Ok(()),
            other => other.map(drop),
        })
    }

    fn abort_run(&mut self) -> Result<(), KafkaError> {
        let of_run = |id: &String| {
            TransactionName::parse(id).is_some_and(|name| name.prefix == self.prefix && name.run == self.run)
        };
        let open: Vec<String> = self.client.open_transactions()?.into_iter().filter(of_run).collect();
        open.iter().try_for_each(|id| self.abort_one(id))
    }
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
        let decoded: Result<Vec<_>, _> = committables.iter().map(|one| KafkaCommittable::from_bytes(one)).collect();
        let decoded = decoded.map_err(|reason| {
            SinkError::new(format!("Kafka sink {:?}: a committable cannot be read: {reason}", self.prefix))
        })?;
        self.commit_all(&decoded).map_err(SinkError::new)
    }

    fn abort(&mut self) {
        if let Err(error) = self.abort_run() {
            // There is no job left to fail; the brokers abort them when they time out.
            eprintln!("aborting Kafka transactions after the job failed: {error}");
        }
    }
}
