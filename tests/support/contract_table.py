"""Who may call which function: the table of the design, section 3, written out again so that the contract is held to
it.
"""

from __future__ import annotations

from emr_model.ledger.functions import Function, Role

H, P, T, A, S = Role.HEALTHCENTER, Role.PHYSICIAN, Role.PATIENT, Role.ADMIN, Role.SERVICE

WHO: dict[Function, set[Role]] = {
    Function.REGISTER_ORGANIZATION: {A},
    Function.GET_ORGANIZATION: {H, P, T, A, S},
    Function.LIST_ORGANIZATIONS: {H, P, T, A, S},
    Function.CREATE_EMR: {H},
    Function.CHECK_IS_PATIENT_REGISTERED: {H},
    Function.UPDATE_DEMOGRAPHICS: {H},
    Function.REBIND_PATIENT_KEY: {H},
    Function.READ_EMR: {P, S},
    Function.GET_EMR_BY_PATIENT_ID: {P},
    Function.ADD_EMR_NOTE: {P},
    Function.REQUEST_EMR_ACCESS: {P, H},
    Function.AUTHORIZE_EMR_READING: {H},
    Function.END_EMR_READING: {H},
    Function.APPROVE_EMR_SHARING: {T},
    Function.REMOVE_EMR_SHARING: {T},
    Function.SHARE_EMR_SNAPSHOT: {S},
    Function.EXPIRE_SHARING: {S},
    Function.GET_SHARING: {H, P, S, T},
    Function.GET_SHARED_EMR: {P},
    Function.READ_SHARED_EMR: {P},
    Function.LIST_PURGEABLE_SNAPSHOTS: {S},
    Function.PURGE_SNAPSHOTS: {S},
    Function.GET_OWN_EMR: {T},
    Function.GET_MEDICAL_VISIT_COUNT: {T},
    Function.GET_OWN_SHARINGS: {T},
    Function.GET_OWN_DISCLOSURES: {T},
    Function.REQUEST_ERASURE: {T},
    Function.CANCEL_ERASURE: {T},
    Function.ERASE_EMR: {H},
}
