//! What JobMasters and the ResourceManager tell each other: declared needs, slots, and why there are none yet.

use crate::{JobId, SlotId, TaskManagerId};

/// From a JobMaster to the ResourceManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToResourceManager {
    /// The job needs this many slots altogether, those it has included. Declared anew whenever it changes; 0 when the job has
    /// ended, which gives back all it still has.
    DeclareRequirements {
        /// The job.
        job: JobId,
        /// Its name, for explanations.
        name: String,
        /// Slots.
        slots: u32,
        /// With how many it can do: these it gets at once or not at all, what is beyond them as it becomes free. At most `slots`.
        at_least: u32,
    },
    /// The job does not use these slots any more.
    ReleaseSlots {
        /// The job.
        job: JobId,
        /// The slots.
        slots: Vec<SlotId>,
    },
}

/// From the ResourceManager to a JobMaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromResourceManager {
    /// These slots are the job's until it gives them back or loses them.
    SlotsGranted(Vec<SlotGrant>),
    /// A TaskManager is gone; so are its slots and all that ran in them.
    TaskManagerLost {
        /// Which one.
        id: TaskManagerId,
        /// What is known about it.
        reason: String,
    },
    /// How the job's wait for slots stands. Sent whenever it changes while the job waits.
    Waiting(SlotWait),
}

/// A slot given to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotGrant {
    /// The slot.
    pub slot: SlotId,
    /// Host of its TaskManager.
    pub host: String,
}

/// Why a job waits for slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotWait {
    /// Slots the job needs altogether.
    pub needed: u32,
    /// Slots it has.
    pub granted: u32,
    /// Free slots in the cluster.
    pub available: u32,
    /// Slots of TaskManagers that were asked for and have not registered.
    pub pending: u32,
    /// What stands in the way, one sentence each: what the providers said, which limits are reached.
    pub reasons: Vec<String>,
    /// Set when waiting is pointless: a sentence that says why the need can never be satisfied and what would change that.
    pub never: Option<String>,
}
