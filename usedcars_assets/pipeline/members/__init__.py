"""The base models, one module each."""

from collections.abc import Mapping

from usedcars_assets.pipeline.members import (
    elastic_net,
    gradient_boosting,
    random_forest,
    residual_boosting,
    support_vector,
)
from usedcars_assets.pipeline.members.member import Member

MEMBERS: Mapping[str, Member] = {
    module.MEMBER.name: module.MEMBER
    for module in (gradient_boosting, residual_boosting, support_vector, elastic_net, random_forest)
}
