----------------------------- MODULE TokenScenes -----------------------------
(* The small worlds in which TLC checks the life of a token. *)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
  Scene,  \* which terms, uses and events: a name in Scenes
  Fault   \* "none", or which mistake the design contains

Absent == [absent |-> TRUE]   \* records, as an item is: TLC compares nothing else with one
Unread == [unread |-> TRUE]
None == "none"
Any == "any"      \* in the terms: no limit; in a use: not sent

Use == [key |-> None, digest |-> "own", client |-> "app", user |-> Any, address |-> Any, action |-> Any]
Keyed(key) == [Use EXCEPT !.key = key]
By(user) == [Use EXCEPT !.user = user]

Plain == [
  uses      |-> << >>,       \* name of a use -> what it sends
  max       |-> 2,
  expires   |-> 9,
  notBefore |-> 0,
  user      |-> Any,
  address   |-> Any,
  audience  |-> {},          \* empty: any client
  actions   |-> {"download"},
  bind      |-> FALSE,       \* bind to the user of the first use
  lockAt    |-> 2,           \* mismatches that lock; 5 in the code
  window    |-> 2,           \* ticks in which a key returns the same answer; 10 minutes in the code
  clock     |-> 0,           \* ticks that may pass
  skew      |-> 0,           \* ticks by which the clock of a machine may be wrong
  can       |-> {},          \* events: "revoke", "restore"
  changes   |-> {}           \* requests to change the token
]

Scenes == [
  race |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), B1 |-> Use, C1 |-> Use, D1 |-> Keyed("d")],
    !.can = {"revoke"}],
  keys |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), A3 |-> [Keyed("a") EXCEPT !.user = "eve"], B1 |-> Use],
    !.expires = 3, !.notBefore = 1, !.clock = 3, !.can = {"revoke"}],
  clocks |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), B1 |-> Use],
    !.max = 1, !.expires = 2, !.notBefore = 1, !.clock = 3, !.skew = 2],
  lock |-> [Plain EXCEPT
    !.uses = [A1 |-> [Keyed("a") EXCEPT !.user = "ann"], A2 |-> [Keyed("a") EXCEPT !.user = "ann"],
              E1 |-> By("eve"), E2 |-> By(Any), E3 |-> [By("ann") EXCEPT !.action = "edit"]],
    !.user = "ann", !.lockAt = 3],
  strangers |-> [Plain EXCEPT
    !.uses = [A1 |-> Use, B1 |-> [Use EXCEPT !.client = "other"], C1 |-> [Use EXCEPT !.digest = "forged"],
              D1 |-> [Use EXCEPT !.action = "download"]],
    !.audience = {"app"}, !.max = 1, !.can = {"revoke"}],
  address |-> [Plain EXCEPT
    !.uses = [A1 |-> [Keyed("a") EXCEPT !.address = "home"], A2 |-> [Keyed("a") EXCEPT !.address = "home"],
              B1 |-> [Use EXCEPT !.address = "home"], C1 |-> [Use EXCEPT !.address = "away"]],
    !.address = "home", !.max = 1, !.can = {"revoke"}],
  calls |-> [Plain EXCEPT   \* small enough to check what happens in the end
    !.uses = [A1 |-> [Keyed("a") EXCEPT !.address = "home"], A2 |-> [Keyed("a") EXCEPT !.address = "home"]],
    !.address = "home", !.max = 1, !.can = {"revoke"}],
  restore |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), B1 |-> Use, C1 |-> Use],
    !.max = 1, !.can = {"revoke", "restore"}],
  pause |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), B1 |-> Use], !.max = 1, !.can = {"revoke"},
    !.changes = {"pause", "resume"}],
  limits |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), B1 |-> Use, C1 |-> Use], !.expires = 2, !.clock = 1,
    !.changes = {"lower", "raise", "shorten"}],
  unlock |-> [Plain EXCEPT
    !.uses = [A1 |-> By("ann"), E1 |-> By("eve"), E2 |-> By("eve")], !.user = "ann", !.changes = {"unlock"}],
  bind |-> [Plain EXCEPT
    !.uses = [A1 |-> [Keyed("a") EXCEPT !.user = "ann"], A2 |-> [Keyed("a") EXCEPT !.user = "ann"],
              B1 |-> By("bob"), C1 |-> By(Any)],
    !.bind = TRUE, !.lockAt = 3],
  free |-> [Plain EXCEPT !.uses = [A1 |-> By("ann"), B1 |-> By("bob"), C1 |-> By(Any)]],
  \* for make soak
  crowd |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), A3 |-> Keyed("a"), D1 |-> Keyed("d"), D2 |-> Keyed("d"),
              B1 |-> Use, C1 |-> Use],
    !.max = 3, !.can = {"revoke"}],
  mixed |-> [Plain EXCEPT
    !.uses = [A1 |-> Keyed("a"), A2 |-> Keyed("a"), B1 |-> Use], !.expires = 1, !.clock = 1, !.max = 1,
    !.can = {"revoke", "restore"}, !.changes = {"pause", "resume", "raise"}]
]

S == Scenes[Scene]
Uses == DOMAIN S.uses
Changes == S.changes
Of(use) == S.uses[use]

(* A claim's id comes from the key. Without one it is the request's own. *)
Id(use) == IF Of(use).key = None THEN use ELSE Of(use).key
Body(use) == <<Of(use).user, Of(use).address, Of(use).action>>
=============================================================================
