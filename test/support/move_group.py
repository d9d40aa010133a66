"""What of move_group a planning scene's listener meets: its topics, its service, its rules.

The rules are those of MoveIt's ``PlanningScene`` and ``PlanningSceneMonitor``: a whole scene is
published once, then diffs of objects that are all added or removed, in the planning frame; what is
attached leaves the world without a word of its own; a matrix in a diff replaces the whole one.
"""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import Pose
from moveit_msgs import msg, srv
from rclpy.node import Node
from shape_msgs.msg import Mesh, MeshTriangle, Plane, SolidPrimitive

ADD, REMOVE = msg.CollisionObject.ADD, msg.CollisionObject.REMOVE
Components = msg.PlanningSceneComponents


def pose(x=0.0, y=0.0, z=0.0, quaternion=(0.0, 0.0, 0.0, 1.0)) -> Pose:
    made = Pose()
    made.position.x, made.position.y, made.position.z = map(float, (x, y, z))
    q = made.orientation
    q.x, q.y, q.z, q.w = map(float, quaternion)
    return made


def thing(name: str, operation=ADD, frame="base_link", at=None, **shapes) -> msg.CollisionObject:
    """``box=(x, y, z)``, ``sphere=r``, ``cylinder=(height, r)``, ``cone=…``, ``mesh=points``,
    ``plane=(a, b, c, d)``: each (shape, pose), or the shape alone."""
    made = msg.CollisionObject(id=name, operation=operation, pose=at or pose())
    made.header.frame_id = frame
    types = {"box": 1, "sphere": 2, "cylinder": 3, "cone": 4, "prism": 5}
    for kind, value in shapes.items():
        value, place = value if isinstance(value[-1], Pose) else (value, None)
        if kind == "mesh":
            mesh = Mesh(triangles=[MeshTriangle(vertex_indices=[0, 1, 2])])
            mesh.vertices = [pose(*p).position for p in value]
            made.meshes.append(mesh)
            made.mesh_poses += [place] if place else []
        elif kind == "plane":
            made.planes.append(Plane(coef=list(map(float, value))))
            made.plane_poses += [place] if place else []
        else:
            size = list(map(float, value))
            made.primitives.append(SolidPrimitive(type=types[kind], dimensions=size))
            made.primitive_poses += [place] if place else []
    return made


def scene(*things, diff=True, attached: Iterable = ()) -> msg.PlanningScene:
    made = msg.PlanningScene(is_diff=diff)
    made.robot_state.is_diff = diff
    made.world.collision_objects = list(things)
    made.robot_state.attached_collision_objects = [
        msg.AttachedCollisionObject(link_name="gripper_link", object=t) for t in attached
    ]
    return made


class MoveGroup:
    """A planning scene on a node of the test's.

    Args:
        links: names that its SRDF has entries of. frame: its planning frame.
    """

    def __init__(self, node: Node, links: Iterable[str] = (), frame="base_link", namespace=""):
        self.frame, self.objects, self.attached = frame, {}, {}
        names = list(links)
        self.matrix = msg.AllowedCollisionMatrix(
            entry_names=names,
            entry_values=[
                msg.AllowedCollisionEntry(enabled=[a == b for b in names]) for a in names
            ],
        )
        self.heard: list[msg.PlanningScene] = []
        self.answers = 0
        self._publisher = node.create_publisher(
            msg.PlanningScene, f"{namespace}monitored_planning_scene", 100
        )
        self._entities = [
            node.create_service(
                srv.GetPlanningScene, f"{namespace}get_planning_scene", self._answer
            ),
            node.create_subscription(
                msg.PlanningScene, f"{namespace}planning_scene", self.apply, 10
            ),
        ]
        self._publisher.publish(self._scene(diff=False))

    def leave(self, node: Node) -> None:
        """It ends, on the thread that spins the node."""

        def end() -> None:
            timer.cancel()
            node.destroy_publisher(self._publisher)
            node.destroy_service(self._entities[0])
            node.destroy_subscription(self._entities[1])

        timer = node.create_timer(0.0, end)

    def add(self, *things) -> None:
        for t in things:
            t.header.frame_id = self.frame
            self.objects[t.id] = t
        self._publisher.publish(scene(*things, attached=self.attached.values()))

    def remove(self, *names) -> None:
        for name in names:
            del self.objects[name]
        gone = [thing(n, REMOVE, self.frame) for n in names]
        self._publisher.publish(scene(*gone, attached=self.attached.values()))

    def attach(self, name: str) -> None:
        self.attached[name] = self.objects.pop(name)
        self._publisher.publish(scene(attached=self.attached.values()))

    def detach(self, name: str) -> None:
        self.objects[name] = self.attached.pop(name)
        told = scene(self.objects[name], attached=self.attached.values())
        gone = msg.AttachedCollisionObject(object=thing(name, REMOVE))
        told.robot_state.attached_collision_objects.append(gone)
        self._publisher.publish(told)

    def publish(self, told: msg.PlanningScene) -> None:
        """Something that its own scene does not hold."""
        self._publisher.publish(told)

    def allows(self, a: str, b: str) -> bool:
        names = list(self.matrix.entry_names)
        if a not in names or b not in names:
            return False
        return self.matrix.entry_values[names.index(a)].enabled[names.index(b)]

    def apply(self, told: msg.PlanningScene) -> None:
        self.heard.append(told)
        assert told.is_diff
        if told.allowed_collision_matrix.entry_names:
            self.matrix = told.allowed_collision_matrix
        for t in told.world.collision_objects:
            if t.operation == REMOVE:
                del self.objects[t.id]
                self._forget(t.id)
            else:
                assert t.operation == ADD and (t.primitives or t.meshes)
                if len(t.primitives) + len(t.meshes) == 1:  # as MoveIt keeps a lone shape
                    poses = t.primitive_poses or t.mesh_poses
                    t.pose, poses[0] = poses[0], pose()
                self.objects[t.id] = t
        self._publisher.publish(scene(*told.world.collision_objects))

    def _forget(self, name: str) -> None:
        names = list(self.matrix.entry_names)
        if name in names:
            k = names.index(name)
            self.matrix.entry_names = names[:k] + names[k + 1 :]
            rows = [list(e.enabled) for e in self.matrix.entry_values]
            rows = [r[:k] + r[k + 1 :] for r in rows[:k] + rows[k + 1 :]]
            self.matrix.entry_values = [msg.AllowedCollisionEntry(enabled=r) for r in rows]

    def _scene(self, diff: bool) -> msg.PlanningScene:
        return scene(*self.objects.values(), diff=diff, attached=self.attached.values())

    def _answer(self, request, response):
        wanted = request.components.components
        told = self._scene(diff=False)
        if not wanted & Components.WORLD_OBJECT_GEOMETRY:
            told.world.collision_objects = []
        if not wanted & Components.ROBOT_STATE_ATTACHED_OBJECTS:
            told.robot_state.attached_collision_objects = []
        if wanted & Components.ALLOWED_COLLISION_MATRIX:
            told.allowed_collision_matrix = self.matrix
        response.scene = told
        self.answers += 1
        return response
