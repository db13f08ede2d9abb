"""The client of the wire contract: one transport, the studio's jobs and workspaces, and runs with their artifacts.

Reading order: ``address`` (what an address may be), ``keys``, ``body`` (what is sent), ``retry`` and ``limiter`` (when
it is sent), ``failures`` (what a refusal means), ``transport`` (ties these to the network), ``lanes``, ``direct`` and
``reply`` (connections, and HTTP over them), ``answer`` and ``wire`` (what is read), ``items``, ``workspace``,
``studio``, ``application`` and ``runs`` (the calls).

Absent from here: paging that must be consistent, replacing content, and deciding what to do after an unclear outcome
(contract, section 6); these need the trees and belong to the engine.
"""
