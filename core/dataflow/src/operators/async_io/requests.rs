//! Which requests there are, and in which order their results and watermarks go on.

use std::collections::{BTreeMap, VecDeque};

use super::options::Order;
use crate::element::{Control, EventTime};

/// What can go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready<T> {
    /// The results of a record.
    Results(T),
    /// Time, all of whose records have gone on before.
    Time(Control),
}

#[derive(Debug)]
enum State<T, H> {
    /// There is no room for it yet.
    Waiting,
    Asked(H),
    Answered(T),
}

#[derive(Debug)]
struct Request<In, T, H> {
    record: In,
    state: State<T, H>,
}

/// What came in about time between two records.
#[derive(Debug, Default)]
struct Time {
    watermark: Option<EventTime>,
    idle: Option<bool>,
}

impl Time {
    fn add(&mut self, control: Control) {
        match control {
            Control::Watermark(time) => self.watermark = self.watermark.max(Some(time)),
            Control::Idle(idle) => self.idle = Some(idle),
            // Those do not wait for answers.
            Control::Barrier(_) | Control::End => {}
        }
    }

    /// What goes on next: the end of idleness before a watermark, its beginning behind it.
    fn take(&mut self) -> Option<Control> {
        if self.idle == Some(false) {
            return self.idle.take().map(Control::Idle);
        }
        let watermark = self.watermark.take().map(Control::Watermark);
        watermark.or_else(|| self.idle.take().map(Control::Idle))
    }
}

/// The requests of a subtask, by the numbers of their records, and the time between them. `H` gives a request up.
#[derive(Debug)]
pub(super) struct Requests<In, T, H> {
    order: Order,
    capacity: usize,
    all: BTreeMap<u64, Request<In, T, H>>,
    /// Of the next record.
    next: u64,
    /// Of the first record that has not been asked for.
    unasked: u64,
    /// Records asked for whose results have not gone on.
    in_flight: usize,
    /// Time that goes on when no record with a number below this one is left.
    times: VecDeque<(u64, Time)>,
    /// What is answered and may go on, if results go on as they come.
    answered: VecDeque<u64>,
}

impl<In, T, H> Requests<In, T, H> {
    pub(super) fn new(order: Order, capacity: usize) -> Self {
        Requests {
            order,
            capacity,
            all: BTreeMap::new(),
            next: 0,
            unasked: 0,
            in_flight: 0,
            times: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    /// Takes a record in.
    pub(super) fn add(&mut self, record: In) {
        self.all.insert(self.next, Request { record, state: State::Waiting });
        self.next += 1;
    }

    /// Whether there are more records than may be in flight.
    pub(super) fn is_over_capacity(&self) -> bool {
        self.all.len() > self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The records whose results have not gone on, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = &In> {
        self.all.values().map(|request| &request.record)
    }

    /// Has `ask` ask for records as far as there is room.
    pub(super) fn ask_for(&mut self, mut ask: impl FnMut(u64, &In) -> H) {
        while self.in_flight < self.capacity
            && let Some(request) = self.all.get_mut(&self.unasked)
        {
            request.state = State::Asked(ask(self.unasked, &request.record));
            self.unasked += 1;
            self.in_flight += 1;
        }
    }

    /// A record has been answered.
    pub(super) fn answer(&mut self, number: u64, results: T) {
        let Some(request) = self.all.get_mut(&number) else { return };
        request.state = State::Answered(results);
        if self.order == Order::Completion && number < self.boundary() {
            self.answered.push_back(number);
        }
    }

    /// The first record that must wait for time to go on before it.
    fn boundary(&self) -> u64 {
        self.times.front().map_or(u64::MAX, |(at, _)| *at)
    }

    /// A watermark or change of idleness came. Returned if nothing is before it.
    pub(super) fn time(&mut self, control: Control) -> Option<Control> {
        if self.all.is_empty() && self.times.is_empty() {
            return Some(control);
        }
        match self.times.back_mut() {
            Some((at, time)) if *at == self.next => time.add(control),
            _ => {
                let mut time = Time::default();
                time.add(control);
                self.times.push_back((self.next, time));
            }
        }
        None
    }

    /// What goes on next, if anything can.
    pub(super) fn next_ready(&mut self) -> Option<Ready<T>> {
        while let Some((at, time)) = self.times.front_mut()
            && self.all.first_key_value().is_none_or(|(first, _)| first >= at)
        {
            if let Some(control) = time.take() {
                return Some(Ready::Time(control));
            }
            self.times.pop_front();
            let boundary = self.boundary();
            if self.order == Order::Completion {
                let passable = self.all.range(..boundary);
                let answered = passable.filter(|(_, request)| matches!(request.state, State::Answered(_)));
                self.answered.extend(answered.map(|(number, _)| *number));
            }
        }
        let number = match self.order {
            Order::Completion => self.answered.pop_front()?,
            Order::Input => match self.all.first_key_value()? {
                (number, Request { state: State::Answered(_), .. }) => *number,
                _ => return None,
            },
        };
        let State::Answered(results) = self.all.remove(&number)?.state else { return None };
        self.in_flight -= 1;
        Some(Ready::Results(results))
    }

    /// What to give up when the results are of no use any more.
    pub(super) fn asked(&self) -> impl Iterator<Item = &H> {
        self.all.values().filter_map(|request| match &request.state {
            State::Asked(asking) => Some(asking),
            State::Waiting | State::Answered(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbered = Requests<u64, u64, ()>;

    /// Requests for so many records, all asked for, with a watermark of 10 times its number behind each of `times`.
    fn requests(order: Order, records: u64, times: &[u64]) -> Numbered {
        let mut requests = Requests::new(order, usize::MAX);
        for record in 0..records {
            requests.add(record);
            if times.contains(&record) {
                assert_eq!(requests.time(Control::Watermark(record as i64 * 10)), None);
            }
        }
        requests.ask_for(|_, _| ());
        requests
    }

    /// What goes on when records are answered in this order, after each of them.
    fn answered(mut requests: Numbered, order: &[u64]) -> Vec<String> {
        let mut all = Vec::new();
        for number in order {
            requests.answer(*number, *number);
            let went_on = std::iter::from_fn(|| requests.next_ready()).map(|ready| match ready {
                Ready::Results(number) => number.to_string(),
                Ready::Time(Control::Watermark(time)) => format!("w{time}"),
                Ready::Time(other) => format!("{other:?}"),
            });
            all.push(went_on.collect::<Vec<_>>().join(" "));
        }
        assert!(requests.is_empty() && requests.times.is_empty());
        all
    }

    #[test]
    fn results_in_order_wait_for_those_before_them() {
        let all = answered(requests(Order::Input, 4, &[1, 3]), &[2, 1, 0, 3]);
        assert_eq!(all, ["", "", "0 1 w10 2", "3 w30"]);
    }

    #[test]
    fn results_as_they_come_overtake_records_but_no_watermark() {
        let all = answered(requests(Order::Completion, 6, &[1, 3]), &[5, 1, 3, 0, 4, 2]);
        assert_eq!(all, ["", "1", "", "0 w10 3", "", "2 w30 4 5"]);
    }

    #[test]
    fn time_passes_at_once_when_nothing_is_before_it() {
        let mut requests = requests(Order::Completion, 1, &[]);
        assert_eq!(requests.time(Control::Watermark(5)), None);
        requests.answer(0, 0);
        assert_eq!(requests.next_ready(), Some(Ready::Results(0)));
        assert_eq!(requests.time(Control::Watermark(7)), None, "the one before has not gone on yet");
        assert_eq!(requests.next_ready(), Some(Ready::Time(Control::Watermark(7))), "the later one says it all");
        assert_eq!(requests.next_ready(), None);
        assert_eq!(requests.time(Control::Watermark(9)), Some(Control::Watermark(9)));
    }

    #[test]
    fn idleness_ends_before_the_watermark_and_begins_behind_it() {
        let passed = |controls: &[Control]| {
            let mut requests = requests(Order::Input, 1, &[]);
            controls.iter().for_each(|control| assert_eq!(requests.time(*control), None));
            requests.answer(0, 0);
            let ready = std::iter::from_fn(move || requests.next_ready());
            let time = |ready| if let Ready::Time(control) = ready { Some(control) } else { None };
            ready.filter_map(time).collect::<Vec<_>>()
        };
        let (idle, active) = (Control::Idle(true), Control::Idle(false));
        let watermark = Control::Watermark;
        assert_eq!(passed(&[watermark(3), idle]), [watermark(3), idle]);
        assert_eq!(passed(&[idle, active, watermark(3)]), [active, watermark(3)]);
        assert_eq!(passed(&[watermark(3), idle, active, watermark(4)]), [active, watermark(4)]);
    }

    #[test]
    fn no_more_than_the_capacity_is_asked_for_until_results_have_gone_on() {
        let mut requests = Requests::<u64, u64, ()>::new(Order::Input, 2);
        (0..4).for_each(|record| requests.add(record));
        let ask = |requests: &mut Numbered| {
            let mut asked: Vec<u64> = Vec::new();
            requests.ask_for(|number, _| asked.push(number));
            asked
        };
        assert_eq!(ask(&mut requests), [0, 1]);
        requests.answer(1, 1);
        assert_eq!(requests.next_ready(), None);
        assert!(ask(&mut requests).is_empty(), "the result of 1 waits for that of 0, and counts");
        requests.answer(0, 0);
        assert!(requests.is_over_capacity());
        assert_eq!(requests.next_ready(), Some(Ready::Results(0)));
        assert_eq!(ask(&mut requests), [2]);
        assert_eq!(requests.records().collect::<Vec<_>>(), [&1, &2, &3], "what has gone on is state no more");
    }
}
