---------------------------- MODULE IssueWithKey ----------------------------
(* Planned: issue with an Idempotency-Key. Two writes, and a crash, a delay or a repetition anywhere between them.    *)
(*                                                                                                                   *)
(* The first write stores a key item: a random salt, a digest of the body and the instant. Where there is one, it    *)
(* returns that one, in the same call. The token is derived from salt and key, so the same salt gives the same token *)
(* again. The second write puts the token. All attempts here have the same client and key; "any number of times,     *)
(* late or never" is said as in TokenLife.                                                                           *)
EXTENDS Integers, FiniteSets

CONSTANTS
  Scene,  \* which attempts and events: a name in Scenes
  Fault   \* "none", or which mistake the design contains

None == [none |-> TRUE]   \* a record, as items are: TLC compares nothing else with one

Plain == [
  body   |-> [A1 |-> "x", A2 |-> "x", A3 |-> "x"],  \* attempt -> what it wants to issue
  last   |-> {},         \* attempts whose caller waits for the answer; the others may crash at any point
  day    |-> 2,          \* ticks for which a key holds; 24 hours in the contract
  clock  |-> 0,          \* ticks that may pass
  can    |-> {}          \* events: "use", "revoke", "pause", "restore"
]
Scenes == [
  crash     |-> [Plain EXCEPT !.clock = 1, !.last = {"A3"}, !.can = {"use", "revoke", "pause"}],
  crashes   |-> [Plain EXCEPT !.clock = 1, !.can = {"use", "revoke", "pause"},
                              !.body = [A1 |-> "x", A2 |-> "x", A3 |-> "y", A4 |-> "x"]],
  other     |-> [Plain EXCEPT !.body.A3 = "y", !.can = {"use"}],
  nextday   |-> [Plain EXCEPT !.clock = 7, !.body.A3 = "y", !.can = {"use"}],
  restored  |-> [Plain EXCEPT !.clock = 3, !.can = {"use", "restore"}]
]
S == Scenes[Scene]
Attempts == DOMAIN S.body

VARIABLES
  now,       \* the true time
  key,       \* the key item: [salt, body, instant]
  token,     \* salt -> the item of the token that is derived from it
  at,        \* attempt -> when it began; -1: not yet
  since,     \* attempt -> the watermark that its process had
  got,       \* attempt -> the key item that its first write made or met
  answer,    \* attempt -> "none", "issued", "idempotency_key_reused" or "store_unavailable"
  spent,     \* salt -> uses of that token, restored or not
  backup,    \* key and tokens in the backup
  watermark, \* what was issued before it counts as revoked
  gone       \* attempts that began before the restore: their writes can reach no table any more

vars == <<now, key, token, at, since, got, answer, spent, backup, watermark, gone>>

Init ==
  /\ now = 0
  /\ key = None
  /\ token = [salt \in Attempts |-> None]
  /\ at = [a \in Attempts |-> -1]
  /\ since = [a \in Attempts |-> 0]
  /\ got = [a \in Attempts |-> None]
  /\ answer = [a \in Attempts |-> "none"]
  /\ spent = [salt \in Attempts |-> 0]
  /\ backup = None
  /\ watermark = 0
  /\ gone = {}

Sent(a) == at[a] >= 0 /\ a \notin gone
Own(a) == [salt |-> a, body |-> S.body[a], instant |-> at[a]]   \* the salt is random: each attempt has another

(* Only a key item that is old, or from before the watermark, gives way to a new one. *)
Open(a) ==
  IF key = None \/ Fault = "key_item_overwritten" THEN TRUE
  ELSE \/ at[a] >= key.instant + S.day
       \/ key.instant < since[a] /\ Fault # "key_survives_the_watermark"

Fresh(item) == [instant |-> item.instant, used |-> FALSE, revoked |-> FALSE, paused |-> FALSE]

(* The put's condition: there is no such token. If there is, it is this one: its digest says so. *)
Put(a, item) ==
  IF token[item.salt] = None \/ Fault = "late_put_without_a_condition"
  THEN [token EXCEPT ![item.salt] =
         Fresh(IF Fault = "instant_of_the_repetition" THEN [item EXCEPT !.instant = at[a]] ELSE item)]
  ELSE token
PutAnswer(item) ==
  IF token[item.salt] # None /\ Fault = "a_used_token_is_unavailable"
  THEN IF token[item.salt].used \/ token[item.salt].revoked THEN "store_unavailable" ELSE "issued"
  ELSE "issued"

(* Time passes. *)
Tick ==
  /\ now < S.clock
  /\ now' = now + 1
  /\ UNCHANGED <<key, token, at, since, got, answer, spent, backup, watermark, gone>>

(* An attempt begins. *)
Begin(a) ==
  /\ at[a] = -1
  /\ at' = [at EXCEPT ![a] = now]
  /\ since' = [since EXCEPT ![a] = watermark]
  /\ UNCHANGED <<now, key, token, got, answer, spent, backup, watermark, gone>>

(* The first write is done: it stores the attempt's own key item if there is none that holds. *)
WriteKey(a, arrives) ==
  /\ Sent(a)
  /\ Fault = "salt_written_after_the_token" => token[a] # None
  /\ key' = IF Open(a) THEN Own(a) ELSE key
  /\ IF arrives THEN got[a] = None /\ got' = [got EXCEPT ![a] = key'] ELSE key' # key /\ got' = got
  /\ UNCHANGED <<now, token, at, since, answer, spent, backup, watermark, gone>>

(* The second write puts the token that is derived from the salt. *)
Item(a) == IF Fault = "salt_written_after_the_token" /\ got[a] = None THEN Own(a) ELSE got[a]
MayPut(a) ==
  /\ Sent(a)
  /\ Item(a) # None
  /\ Item(a).body = S.body[a] \/ Fault = "body_not_compared"
(* The put of the token is done. The answer is lost, or comes too late. *)
PutInSilence(a) ==
  /\ MayPut(a)
  /\ token' = Put(a, Item(a)) /\ token' # token
  /\ UNCHANGED <<now, key, at, since, got, answer, spent, backup, watermark, gone>>
(* The put of the token is done, or changes nothing, and its answer arrives. *)
PutWithAnswer(a) ==
  /\ MayPut(a) /\ got[a] # None
  /\ answer[a] = "none"
  /\ token' = Put(a, Item(a))
  /\ answer' = [answer EXCEPT ![a] = PutAnswer(Item(a))]
  /\ UNCHANGED <<now, key, at, since, got, spent, backup, watermark, gone>>
(* The attempt has another body. *)
Reject(a) ==
  /\ Sent(a) /\ got[a] # None /\ answer[a] = "none" /\ ~MayPut(a)
  /\ answer' = [answer EXCEPT ![a] = "idempotency_key_reused"]
  /\ UNCHANGED <<now, key, token, at, since, got, spent, backup, watermark, gone>>

Revoked(salt) == token[salt].revoked \/ token[salt].instant < watermark
Known(salt) == \E a \in Attempts : answer[a] = "issued" /\ got[a].salt = salt
(* Somebody who has the token uses it. A token has one use here. *)
Use(salt) ==
  /\ "use" \in S.can /\ Known(salt) /\ token[salt] # None
  /\ ~token[salt].used /\ ~token[salt].paused /\ ~Revoked(salt)
  /\ token' = [token EXCEPT ![salt].used = TRUE]
  /\ spent' = [spent EXCEPT ![salt] = @ + 1]
  /\ UNCHANGED <<now, key, at, since, got, answer, backup, watermark, gone>>
(* The token is revoked or paused. *)
Mark(salt, event, field) ==
  /\ event \in S.can /\ Known(salt) /\ token[salt] # None
  /\ ~token[salt][field]
  /\ token' = [token EXCEPT ![salt][field] = TRUE]
  /\ UNCHANGED <<now, key, at, since, got, answer, spent, backup, watermark, gone>>

(* A backup is made. *)
BackUp ==
  /\ "restore" \in S.can /\ backup = None /\ watermark = 0
  /\ backup' = [key |-> key, token |-> token]
  /\ UNCHANGED <<now, key, token, at, since, got, answer, spent, watermark, gone>>
(* The table is restored from the backup. *)
Restore ==
  /\ backup # None /\ watermark = 0
  /\ key' = backup.key
  /\ token' = backup.token
  /\ gone' = {a \in Attempts : at[a] >= 0}
  /\ watermark' = now + 1 /\ now' = now + 1     \* docs/restore.md: the time of the stop and a minute
  /\ UNCHANGED <<at, since, got, answer, spent, backup>>

Next ==
  \/ Tick \/ BackUp \/ Restore
  \/ \E a \in Attempts : \/ Begin(a) \/ WriteKey(a, TRUE) \/ WriteKey(a, FALSE) \/ PutInSilence(a) \/ PutWithAnswer(a)
                         \/ Reject(a) \/ Use(a) \/ Mark(a, "revoke", "revoked") \/ Mark(a, "pause", "paused")

(* Most attempts may crash anywhere. A caller that goes on repeating has one, in the end, that does not. *)
Fair == \A a \in S.last : WF_vars(WriteKey(a, TRUE)) /\ WF_vars(PutWithAnswer(a)) /\ WF_vars(Reject(a))
Spec == Init /\ [][Next]_vars /\ Fair

(* ------------------------------------- promises, as the contract words them ----------------------------------- *)

Issued(a) == answer[a] = "issued"
Twins(a, b) == a \notin gone /\ b \notin gone /\ Issued(a) /\ Issued(b)

(* "The same client, key and body get the same answer, token included", its expiry too. *)
ARepetitionGetsTheSameAnswer ==
  \A a, b \in Attempts : Twins(a, b) /\ got[a].instant = got[b].instant => got[a].salt = got[b].salt
(* Attempts of the same day get the same token: there is one token for each key and day, whoever crashed where. *)
OneTokenForAKey ==
  \A s, r \in Attempts : token[s] # None /\ token[r] # None /\ s # r =>
    \/ token[s].instant >= token[r].instant + S.day
    \/ token[r].instant >= token[s].instant + S.day
    \/ token[s].instant < watermark \/ token[r].instant < watermark
(* "Another body is 422." *)
AnotherBodyIsRefused == \A a \in Attempts : Issued(a) => got[a].body = S.body[a]
(* What the answer says is what is stored: the token is there, and expires when its first attempt said. *)
AnIssuedTokenIsStored ==
  \A a \in Attempts \ gone : Issued(a) => token[got[a].salt] # None /\ token[got[a].salt].instant = got[a].instant
(* "Spent tokens do not come alive again", by a restore or by a late put. *)
NoExtraGrant == \A salt \in Attempts : spent[salt] <= 1
(* A token that is issued after a restore can be used. *)
NoTokenIsIssuedRevoked == \A a \in Attempts \ gone : Issued(a) => got[a].instant >= since[a]
(* A crash leaves nothing that a repetition does not mend: it is never refused for what an earlier attempt did. *)
ARepetitionIsNeverRefused == \A a \in Attempts : answer[a] # "store_unavailable"
(* A late or repeated put takes nothing back. *)
NothingIsTakenBack == [][\A salt \in Attempts : watermark' = watermark /\ token[salt] # None =>
  /\ token'[salt].used = token[salt].used \/ token'[salt].used
  /\ token[salt].revoked => token'[salt].revoked
  /\ token[salt].paused => token'[salt].paused]_vars
(* "A crash between two writes leaves nothing that a repetition does not mend." *)
AnAnswerInTheEnd == \A a \in S.last : (at[a] >= 0 /\ a \notin gone) ~> (answer[a] # "none" \/ a \in gone)
=============================================================================
