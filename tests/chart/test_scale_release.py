"""The chart makes of the scale test's values what its page says: so many pods, each with its limit."""

from __future__ import annotations

import pytest
from rendering import render

from scaling.plan import ScalePlan
from scaling.release import values

PLAN = ScalePlan()


@pytest.mark.parametrize(("autoscaled", "scaled"), [(False, []), (True, ["auth-auth-service-auth"])])
def test_nginx_is_one_pod_with_the_limit_of_the_plan(autoscaled: bool, scaled: list[str]) -> None:
    objects = render(values(PLAN, {"repository": "auth-service", "tag": "0"}, autoscaled))
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "HorizontalPodAutoscaler"] == scaled
    [nginx] = [each["spec"] for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-nginx")]
    assert nginx["replicas"] == 1
    assert nginx["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == f"{PLAN.nginx_millicores}m"
