------------------------------ MODULE TokenLife ------------------------------
(* The life of one token: put, claimed, counted, changed, revoked, restored. docs/model.md explains it.           *)
(*                                                                                                                *)
(* A use is one request. Its write may reach the store never, late or many times, and each of its answers may be  *)
(* lost: an action that the store does stays enabled, and has a form with and a form without the answer. A late   *)
(* answer needs no form of its own, since it shows the item as it was when the write was done.                    *)
EXTENDS TokenScenes

VARIABLES
  now,        \* the true time
  item,       \* the token's item in the store
  at,         \* use -> when its request began, by the clock of its machine; -1: not yet
  answer,     \* use -> what its caller got
  judged,     \* uses whose address was judged by the service, after a first write that returned the item
  counted,    \* uses whose mismatch was counted
  version,    \* change -> the item's version that its request read; -1: not yet
  applied,    \* change -> how often it took effect since the last restore
  backup,     \* the item in the backup
  watermark,  \* tokens issued before it count as revoked
  gone,       \* uses that began before the restore: their writes can reach no table any more
  seen        \* use or change -> the item that it read; only where a fault reads first

vars == <<now, item, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* ------------------------------------------------- rules ------------------------------------------------------ *)

IssuedAt == 0
Fresh == [claims |-> << >>, mismatches |-> 0, revoked |-> FALSE, paused |-> FALSE, expires |-> S.expires,
          max |-> S.max, first |-> None, version |-> 0]
(* Each claim in `claims` is the name of the use that made it; `at` has its instant, `uses` all else. *)

Position(claims, use) ==   \* 0: it has none
  IF \E n \in DOMAIN claims : Id(claims[n]) = Id(use) THEN CHOOSE n \in DOMAIN claims : Id(claims[n]) = Id(use) ELSE 0

Since == IF Fault = "restore_without_a_watermark" THEN 0 ELSE watermark
AfterWatermark == IF Fault = "watermark_on_the_wrong_side" THEN IssuedAt <= Since ELSE IssuedAt >= Since

UserFits(i, use) ==
  /\ S.user = Any \/ Of(use).user = S.user
  /\ S.bind => Of(use).user # Any
  /\ (S.bind \/ Fault = "every_token_bound") => i.first \in {None, Of(use).user}
ClientFits(use) == S.audience = {} \/ Of(use).client \in S.audience
AddressFits(use) == S.address = Any \/ Of(use).address = S.address
ActionFits(use) == Of(use).action = Any \/ Of(use).action \in S.actions

Grants == {"granted", "replayed"}
MayCount == {"user_mismatch", "ip_mismatch", "action_not_permitted"}

(* decide() for a use whose claim was made by an earlier request with the same key. *)
Replay(i, use, n) ==
  LET claim == i.claims[n] IN
  IF /\ Body(claim) = Body(use) \/ Fault = "body_not_compared"
     /\ at[use] - at[claim] < S.window \/ Fault = "window_without_end"
  THEN <<"replayed", n>>
  ELSE <<"idempotency_key_reused", 0>>

(* decide(): the answer to a use, from an item. "new": nothing is against a claim, and there is none yet. *)
Decide(i, use) ==
  LET own == IF i = Absent \/ Fault = "own_claim_not_looked_for" THEN 0 ELSE Position(i.claims, use)
      mine == own > 0 /\ i.claims[own] = use /\ Fault # "attempt_not_stored" IN
  IF i = Absent \/ Of(use).digest # "own"             THEN <<"token_not_found", 0>>
  ELSE IF mine /\ Fault # "own_claim_after_revocation" THEN <<"granted", own>>
  ELSE IF i.revoked \/ ~AfterWatermark                THEN <<"token_revoked", 0>>
  ELSE IF i.mismatches >= S.lockAt                    THEN <<"token_locked", 0>>
  ELSE IF i.paused /\ Fault = "pause_refuses_a_replay" THEN <<"token_paused", 0>>
  ELSE IF mine                                        THEN <<"granted", own>>
  ELSE IF own > 0                                     THEN Replay(i, use, own)
  ELSE IF i.paused                                    THEN <<"token_paused", 0>>
  ELSE IF at[use] >= i.expires                        THEN <<"token_expired", 0>>
  ELSE IF at[use] < S.notBefore                       THEN <<"token_not_yet_valid", 0>>
  ELSE IF ~ClientFits(use)                            THEN <<"audience_mismatch", 0>>
  ELSE IF ~UserFits(i, use)                           THEN <<"user_mismatch", 0>>
  ELSE IF ~AddressFits(use)                           THEN <<"ip_mismatch", 0>>
  ELSE IF ~ActionFits(use)                            THEN <<"action_not_permitted", 0>>
  ELSE IF Len(i.claims) >= i.max                      THEN <<"token_exhausted", 0>>
  ELSE <<"new", 0>>

(* ------------------------------------------------- the write -------------------------------------------------- *)

(* What a clause is judged on: the item at the write, or, with that fault, the item as it was read before. *)
On(fault, i, use) == IF Fault \in {fault, "read_then_write"} THEN seen[use] ELSE i

(* The condition of the write that makes a claim. Above each line stands its clause in the code, and the Reason that  *)
(* a caller gets if it alone does not hold. "planned": the code has no such clause yet.                               *)
Claimable(i, use) ==
  /\ i # Absent
  \* clause: digest = :digest -> NOT_FOUND
  /\ Of(use).digest = "own"
  \* clause: attribute_not_exists(revoked_at) -> REVOKED
  /\ ~On("revocation_judged_before_the_write_only", i, use).revoked
  \* clause: issued_at >= :issued_after -> REVOKED
  /\ AfterWatermark
  \* clause: mismatches < :locked -> LOCKED
  /\ i.mismatches < S.lockAt \/ Fault = "lock_after_the_claim"
  \* clause: attribute_not_exists(claims.#claim) -> KEY_REUSED
  /\ \/ Position(On("", i, use).claims, use) = 0
     \/ Fault \in {"write_does_not_look_for_its_claim", "counter_in_place_of_claims"}
  \* planned: attribute_not_exists(paused_at) -> PAUSED
  /\ ~i.paused
  \* clause: expires_at > :now -> EXPIRED
  /\ On("expiry_judged_before_the_write_only", i, use).expires > at[use]
  \* clause: (attribute_not_exists(not_before) OR not_before <= :now) -> NOT_YET_VALID
  /\ S.notBefore <= at[use]
  \* clause: (attribute_not_exists(audience) OR contains(audience, :client)) -> AUDIENCE
  /\ ClientFits(use)
  \* clause: (attribute_not_exists(#user) OR #user = :user) -> USER
  \* clause: attribute_not_exists(#user) -> USER
  \* planned: (attribute_not_exists(bind_user) OR attribute_not_exists(first_user) OR first_user = :user) -> USER
  \* planned: attribute_not_exists(bind_user) -> USER
  /\ UserFits(i, use)
  \* clause: attribute_not_exists(networks) -> ADDRESS
  /\ S.address = Any \/ use \in judged
  \* clause: contains(actions, :action) -> ACTION
  /\ ActionFits(use)
  \* clause: size(claims) < max_uses -> EXHAUSTED
  /\ Len(On("", i, use).claims) < i.max

(* What the write sets. A claim under an id that is there already would take its place. *)
Claimed(i, use) ==
  LET own == Position(i.claims, use)
      binds == i.first = None /\ Of(use).user # Any /\ Fault # "bound_after_the_claim"
  IN [i EXCEPT
       \* clause: SET claims.#claim = :claim, claim_order = list_append(claim_order, :order) -> -
       !.claims = IF own > 0 /\ Fault # "counter_in_place_of_claims" THEN [@ EXCEPT ![own] = use] ELSE Append(@, use),
       \* planned: first_user = if_not_exists(first_user, :user)
       !.first = IF binds THEN Of(use).user ELSE @]

Afterwards(use) == IF Claimable(item, use) THEN Claimed(item, use) ELSE item

(* ------------------------------------------------- events ----------------------------------------------------- *)

Init ==
  /\ now = 0 /\ item = Absent
  /\ at = [use \in Uses |-> -1]
  /\ answer = [use \in Uses |-> <<None, 0>>]
  /\ judged = {} /\ counted = {} /\ gone = {}
  /\ version = [change \in Changes |-> -1]
  /\ applied = [change \in Changes |-> 0]
  /\ backup = Absent /\ watermark = 0
  /\ seen = [each \in Uses \cup Changes |-> Unread]

Began(use) == at[use] >= 0
Answered(use) == answer[use][1] # None
Reads == {"read_then_write", "revocation_judged_before_the_write_only", "expiry_judged_before_the_write_only"}

(* The condition of the put: the token is new, or at least untouched. *)
Addable ==
  \* clause: put: attribute_not_exists(id) -> -
  IF item = Absent \/ Fault = "late_put_without_a_condition" THEN TRUE
  \* clause: put: digest = :digest -> -
  \* clause: put: size(claims) = :none -> -
  ELSE /\ item.claims = << >>
       \* clause: put: mismatches = :none -> -
       /\ item.mismatches = 0
       \* clause: put: attribute_not_exists(revoked_at) -> -
       /\ ~item.revoked
       \* planned: attribute_not_exists(version) -> -
       /\ item.version = 0 \/ Fault = "late_put_over_a_change"
(* The put of the new token is done, perhaps late and not for the first time. *)
Put ==
  /\ watermark = 0
  /\ Addable
  /\ item' = Fresh
  /\ UNCHANGED <<now, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* Time passes. *)
Tick ==
  /\ now < S.clock /\ now' = now + 1
  /\ UNCHANGED <<item, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* A request to use the token arrives at a machine, which reads its clock once. *)
Begin(use) ==
  /\ item # Absent
  /\ ~Began(use)
  /\ \E t \in (now - S.skew)..(now + S.skew) :
       /\ t \in 0..S.clock
       /\ at' = [at EXCEPT ![use] = t]
  /\ UNCHANGED <<now, item, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* Only with a fault: the service reads the item before it writes. *)
Look(use) ==
  /\ Fault \in Reads /\ Began(use) /\ seen[use] = Unread
  /\ seen' = [seen EXCEPT ![use] = item]
  /\ UNCHANGED <<now, item, at, answer, judged, counted, version, applied, backup, watermark, gone>>

Sent(use) == Began(use) /\ use \notin gone /\ (Fault \in Reads => seen[use] # Unread)

(* The write is done and its answer is lost; or it is a repetition that comes late. *)
ClaimInSilence(use) ==
  /\ Sent(use)
  /\ item' = Afterwards(use)
  /\ item' # item
  /\ UNCHANGED <<now, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* The write is done, or refused, and its answer arrives. *)
ClaimWithAnswer(use) ==
  /\ Sent(use)
  /\ ~Answered(use)
  /\ item' = Afterwards(use)
  /\ LET decision == Decide(item', use) IN
     IF decision[1] = "new"
     THEN (* The store can't match addresses: it returned the item, and the service judges it. Neither ever changes. *)
          /\ judged' = judged \cup {use}
          /\ answer' = answer
     ELSE /\ judged' = judged
          /\ answer' = [answer EXCEPT ![use] = decision]
  /\ UNCHANGED <<now, at, counted, version, applied, backup, watermark, gone, seen>>

(* A mismatch costs one more write, which counts it. Where its answer is lost, it counts twice. *)
Count(use) ==
  /\ answer[use][1] \in MayCount
  /\ use \notin gone
  /\ Fault = "mismatches_read_then_written" => seen[use] # Unread
  /\ item.mismatches < S.lockAt
  /\ item' = [item EXCEPT !.mismatches =
       IF Fault = "mismatches_read_then_written" THEN seen[use].mismatches + 1 ELSE @ + 1]
  /\ counted' = counted \cup {use}
  /\ UNCHANGED <<now, at, answer, judged, version, applied, backup, watermark, gone, seen>>

(* Only with a fault: the service reads how many mismatches were counted. *)
LookForCount(use) ==
  /\ Fault = "mismatches_read_then_written" /\ answer[use][1] \in MayCount /\ seen[use] = Unread
  /\ seen' = [seen EXCEPT ![use] = item]
  /\ UNCHANGED <<now, item, at, answer, judged, counted, version, applied, backup, watermark, gone>>

(* Only with a fault: the token is bound by a second write. *)
BindLater(use) ==
  /\ Fault = "bound_after_the_claim"
  /\ answer[use][1] = "granted" /\ item.first = None
  /\ item' = [item EXCEPT !.first = Of(use).user]
  /\ UNCHANGED <<now, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* The token is revoked. *)
Revoke ==
  /\ "revoke" \in S.can /\ item # Absent /\ ~item.revoked
  /\ item' = [item EXCEPT !.revoked = TRUE]
  /\ UNCHANGED <<now, at, answer, judged, counted, version, applied, backup, watermark, gone, seen>>

(* Planned: a request to change the token reads it. *)
ReadToChange(change) ==
  /\ item # Absent /\ version[change] = -1
  /\ version' = [version EXCEPT ![change] = item.version]
  /\ seen' = IF Fault \in {"change_puts_the_item_back", "limit_checked_before_the_write_only"}
             THEN [seen EXCEPT ![change] = item] ELSE seen
  /\ UNCHANGED <<now, item, at, answer, judged, counted, applied, backup, watermark, gone>>

Changed(i, change) ==
  CASE change = "pause"   -> [i EXCEPT !.paused = TRUE]
    [] change = "resume"  -> [i EXCEPT !.paused = FALSE]
    [] change = "lower"   -> [i EXCEPT !.max = 1]
    [] change = "raise"    -> [i EXCEPT !.max = S.max + 1]
    [] change = "shorten" -> [i EXCEPT !.expires = 1]
    [] change = "unlock"  -> [i EXCEPT !.mismatches = 0]

(* Planned: the request to change the token writes, if nobody changed the item in between; perhaps again, late. *)
Change(change) ==
  /\ version[change] >= 0
  /\ ~item.revoked
  /\ item.version = version[change] \/ Fault = "change_without_a_version"
  /\ change = "lower" =>
       Len((IF Fault = "limit_checked_before_the_write_only" THEN seen[change] ELSE item).claims) <= 1
  /\ change = "unlock" => item.mismatches >= S.lockAt
  /\ applied[change] < 2
  /\ item' = [Changed(IF Fault = "change_puts_the_item_back" THEN seen[change] ELSE item, change)
              EXCEPT !.version = @ + 1]
  /\ applied' = [applied EXCEPT ![change] = @ + 1]
  /\ UNCHANGED <<now, at, answer, judged, counted, version, backup, watermark, gone, seen>>

(* A backup is made. *)
BackUp ==
  /\ "restore" \in S.can /\ item # Absent /\ backup = Absent
  /\ backup' = item
  /\ UNCHANGED <<now, item, at, answer, judged, counted, version, applied, watermark, gone, seen>>
(* docs/restore.md: traffic stops, the backup takes the item's place, and the setting is deployed. *)
Restore ==
  /\ backup # Absent /\ watermark = 0
  /\ item' = backup
  /\ watermark' = IssuedAt + 1
  /\ gone' = {use \in Uses : Began(use)}
  /\ applied' = [change \in Changes |-> 0]
  /\ UNCHANGED <<now, at, answer, judged, counted, version, backup, seen>>

Next ==
  \/ Put \/ Tick \/ Revoke \/ BackUp \/ Restore
  \/ \E use \in Uses : \/ Begin(use) \/ Look(use) \/ ClaimInSilence(use) \/ ClaimWithAnswer(use)
                       \/ Count(use) \/ LookForCount(use) \/ BindLater(use)
  \/ \E change \in Changes : ReadToChange(change) \/ Change(change)

(* The network loses messages as it likes, but not all of them for ever. *)
Fair == \A use \in Uses : WF_vars(ClaimWithAnswer(use))
Spec == Init /\ [][Next]_vars /\ Fair

(* -------------------------------- promises, as docs/reliability.md words them ---------------------------------- *)

Range(list) == {list[n] : n \in DOMAIN list}
Claims == IF item = Absent THEN {} ELSE Range(item.claims)
Outcome(use) == answer[use][1]
Granted(use) == Outcome(use) \in Grants
Refused(use) == Answered(use) /\ ~Granted(use)

(* "A token can be used maxUses times: not once more, whoever races for it." A restore loses claims, but no answers; it may
   also lose that the limit was raised. *)
NoExtraGrant ==
  item # Absent =>
    /\ Len(item.claims) <= item.max
    /\ LET most == IF watermark > 0 /\ "raise" \in Changes THEN Changed(item, "raise").max ELSE item.max
       IN Cardinality({use \in Uses : Outcome(use) = "granted"}) <= most

(* "... and not once less because a response was lost": no use is spent twice. *)
NothingIsSpentTwice ==
  item # Absent => \A m, n \in 1..Len(item.claims) : Id(item.claims[m]) = Id(item.claims[n]) => m = n

(* "Every reported success is a claim"; "the uses left fit the position of its claim". *)
EveryReportedUseIsAClaim ==
  \A use \in Uses \ gone : Granted(use) =>
    /\ answer[use][2] \in 1..Len(item.claims)
    /\ Id(item.claims[answer[use][2]]) = Id(use)

(* "Every claim was reported once as new, otherwise as a replay." *)
ReportedNewOnce ==
  \A use, other \in Uses : Outcome(use) = "granted" /\ Outcome(other) = "granted" /\ Id(use) = Id(other) => use = other

(* "The same key within ten minutes returns the same response", and neither a later one nor another body does. *)
AReplayIsForTheSameBodyInTime ==
  \A use \in Uses \ gone : Outcome(use) = "replayed" =>
    LET claim == item.claims[answer[use][2]] IN Body(claim) = Body(use) /\ at[use] - at[claim] < S.window

(* "It locks at the fifth", also if mismatches race. *)
ItLocksInTime == "unlock" \in Changes \/ Cardinality(counted) < S.lockAt \/ item.mismatches >= S.lockAt

(* A token that is bound on first use has one user; one that is not has as many as come. *)
BoundToOneUser == S.bind => \A use, other \in Claims : Of(use).user = Of(other).user
AnUnboundTokenIsFree == ~S.bind /\ S.user = Any => \A use \in Uses : Outcome(use) # "user_mismatch"

(* A change that was overtaken by another is never done again, unless a backup took both back: a late repetition may then
   change the restored token, which counts as revoked. *)
AChangeTakesEffectOnce == \A change \in Changes : applied[change] <= 1

(* "Spent tokens do not come alive again." *)
RestoreRevivesNothing == watermark > 0 => \A use \in Uses \ gone : ~Granted(use)

(* decide() and the condition of the write are the same rule, but that the store can't match addresses. *)
TheWriteIsTheRule ==
  item # Absent => \A use \in Uses : Began(use) =>
    LET may == Claimable(item, use)
    IN IF S.address # Any /\ use \notin judged THEN ~may ELSE may = (Decide(item, use)[1] = "new")

(* Promises over a step: what holds whenever a claim is made, or an answer arrives. *)

ClaimIsMade == item # Absent /\ item' # Absent /\ Len(item'.claims) > Len(item.claims)
Maker == item'.claims[Len(item'.claims)]
AnswerArrives == answer' # answer
Receiver == CHOOSE use \in Uses : answer'[use] # answer[use]
Restored == watermark' # watermark

NothingAfterRevocation == [][
  /\ ClaimIsMade => ~item.revoked
  /\ AnswerArrives /\ answer'[Receiver][1] = "replayed" => ~item'.revoked]_vars
NothingAfterLock == [][ClaimIsMade => item.mismatches < S.lockAt]_vars
NothingWhilePaused == [][ClaimIsMade => ~item.paused]_vars
NothingOutOfItsTime == [][ClaimIsMade => S.notBefore <= at[Maker] /\ at[Maker] < item.expires]_vars
NothingForStrangers == [][ClaimIsMade =>
  /\ Of(Maker).digest = "own" /\ ClientFits(Maker) /\ AddressFits(Maker) /\ ActionFits(Maker)
  /\ S.user \in {Any, Of(Maker).user}]_vars

(* "A refusal never spends a use." *)
ARefusalSpendsNothing == [][
  /\ AnswerArrives /\ answer'[Receiver][1] \notin Grants =>
       Receiver \notin Range(item'.claims)
  /\ ClaimIsMade /\ Changes = {} => ~Refused(Maker)]_vars

(* "A caller that got token_exhausted has no claim, and the token really is used up." *)
NoFalseRefusal == [][AnswerArrives /\ answer'[Receiver][1] = "token_exhausted" =>
  Position(item'.claims, Receiver) = 0 /\ Len(item'.claims) = item'.max]_vars

(* "A retry gets its own response": the same key, body and time find the claim, whatever happened since. *)
ARetryGetsItsOwnResponse == [][AnswerArrives =>
  LET use == Receiver
      n == Position(item'.claims, use)
  IN n > 0 /\ ~item'.revoked /\ AfterWatermark /\ item'.mismatches < S.lockAt =>
       LET claim == item'.claims[n] IN
       claim = use \/ (Body(claim) = Body(use) /\ at[use] - at[claim] < S.window)
         => answer'[use] = <<IF claim = use THEN "granted" ELSE "replayed", n>>]_vars

(* A late or repeated write takes nothing back: no claim, no revocation, no change. *)
NothingIsTakenBack == [][item # Absent /\ ~Restored =>
  /\ Len(item'.claims) >= Len(item.claims)
  /\ item.revoked => item'.revoked
  /\ item'.version >= item.version]_vars

(* "A repeated request gets its answer in the end." *)
AnAnswerInTheEnd == \A use \in Uses : (Began(use) /\ use \notin gone) ~> (Answered(use) \/ use \in gone)
=============================================================================
