"""The real monitor in its own process beside a planning scene."""

from __future__ import annotations

import numpy as np
import pytest
from cells import TABLETOP
from oracle import Oracle
from rig import changed_cell, rig, wait_until

pytest.importorskip("moveit_msgs", reason="needs moveit_msgs (ros-$ROS_DISTRO-moveit-msgs)")

from move_group import MoveGroup, pose, thing

LINKS = ("base_link", "shoulder_link", "gripper_link")


def test_f61_the_scene_s_objects_bar_the_way_and_its_end_brakes(domain, tmp_path):
    # A busy machine starves the joint states for a moment: no business of this test.
    scene = {"take": True, "give": True, "timeout": 2.0}
    cell = changed_cell(tmp_path, planning_scene=scene, joint_state_timeout=1.5, stall=2.0)
    with rig(domain, tmp_path, cell) as (_, arm):
        made = arm.publisher()
        success, message = arm.enable()
        assert not success and "no whole planning scene yet" in message

        moveit = MoveGroup(arm.node, LINKS, frame="world")
        moveit.add(thing("shelf", box=(0.1, 0.1, 0.1)))
        wait_until(lambda: arm.text("planning_scene").startswith("not taken"), 10, "the frame")
        success, message = arm.enable()
        assert not success and "no frame 'world'" in message
        moveit.leave(arm.node)

        moveit = MoveGroup(arm.node, LINKS)
        wait_until(lambda: arm.enable()[0], 15, "the scene is known")
        arm.enabled()
        own = {f"safety_monitor/{name}" for name in ("table", "bin", "workspace")}
        wait_until(lambda: set(moveit.objects) == own, 10, "the zones are in the scene")
        wait_until(lambda: arm.text("planning_scene").endswith("3 zones given"), 10, "and known")
        assert moveit.allows("safety_monitor/table", "shoulder_link")
        assert not moveit.allows("safety_monitor/table", "gripper_link")

        start = arm.rows[-1].copy()
        tip = arm.robot.frame_position(start + np.array([0.6, 0, 0, 0, 0, 0]), "gripper_frame_link")
        moveit.add(thing("cup", sphere=((0.04,), pose(*tip))))
        wait_until(lambda: "1 objects taken" in arm.text("planning_scene"), 10, "taken")

        def pushes():
            made.publish(arm.swing(0.4, 3.0))
            return arm.counts("checks").get("obstacle")

        wait_until(pushes, 20, "it is in the way")
        arm.wait_for_words("scene/cup/0")
        assert arm.rows[-1][0] < start[0] + 0.55
        barred = arm.rows[-1][0]

        # In the arm's hand it is not in its way.
        moveit.attach("cup")
        wait_until(lambda: "not guarded: cup" in arm.text("planning_scene"), 10, "held")

        def passes():
            made.publish(arm.swing(0.4, 3.0))
            return arm.rows[-1][0] > barred + 0.1

        wait_until(passes, 20, "the way is free")

        # Nobody can say any more what is in the scene.
        moveit.leave(arm.node)

        def brakes():
            made.publish(arm.swing(-0.2, 3.0))
            return arm.counts("checks").get("planning_scene")

        wait_until(brakes, 20, "a scene that is gone brakes")
        arm.wait_for_words("no word of the planning scene")
        wait_until(lambda: arm.at_rest(20), 5, "at rest")

        def is_refused():
            made.publish(arm.swing(-0.2, 3.0))
            return arm.counts("refused").get("braking")

        wait_until(is_refused, 10, "and so is what comes then")
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)
